//! Answers, and the headers that all of them have.

use http_body_util::Full;
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::watch::page;

/// When the view was put together that a part is of.
pub const SEEN: HeaderName = HeaderName::from_static("rekiln-seen");

/// Which style and script a part is made for.
pub const PAGE: HeaderName = HeaderName::from_static("rekiln-page");

/// An answer as hyper sends it.
pub type Response = hyper::Response<Full<Bytes>>;

/// What is answered, without the headers that every answer has.
pub struct Reply {
    pub status: StatusCode,
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Reply {
    /// Status 200.
    pub fn new(kind: &'static str, body: Bytes) -> Self {
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
        Self { status: StatusCode::OK, body, headers }
    }

    /// A line for who reads logs.
    pub fn text(status: StatusCode, text: &str) -> Self {
        Self { status, ..Self::new("text/plain; charset=utf-8", format!("{text}\n").into()) }
    }

    pub const fn empty(status: StatusCode) -> Self {
        Self { status, body: Bytes::new(), headers: Vec::new() }
    }

    /// Adds a header; what no header can be is left out.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }
}

/// The headers of every answer, whatever it is: an error's text is as good a target as a page.
pub struct Shell {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Shell {
    pub fn new() -> Self {
        let policy = HeaderValue::from_str(&page::policy()).ok();
        let mut headers = vec![
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            // No other site may put what is here into a page of its own, not even as an image or a script.
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                HeaderValue::from_static("same-origin"),
            ),
        ];
        headers.extend(policy.map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
        Self { headers }
    }

    /// Puts them around a reply.
    pub fn around(&self, reply: Reply) -> Response {
        let mut response = Response::new(Full::new(reply.body));
        *response.status_mut() = reply.status;
        response.headers_mut().extend(self.headers.iter().cloned());
        response.headers_mut().extend(reply.headers);
        response
    }
}
