//! An instant query to a Prometheus server, by its HTTP API (`/api/v1/query`).

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Doing as _, Error, Result};
use crate::fleet::outside::filling::encoded;
use crate::fleet::outside::{Url, ask};

/// Asks `server` for `query` as of now and returns the numbers of the answer. `NaN`, which is its word for a division
/// by nothing, is none.
///
/// # Errors
/// Whatever asking returns; what the server says is wrong with the query; an answer with anything but numbers.
pub fn query(server: &str, query: &str, limit: Duration) -> Result<Vec<f64>> {
    let url = format!("{}/api/v1/query?query={}", server.trim_end_matches('/'), encoded(query, b""));
    let url = Url::resolve(&url)?;
    let answer = ask(&url, None, limit)?;
    let response = serde_json::from_str(&answer.body);
    // Before the status: that of a wrong query is no 2xx, and the words say more.
    if let Ok(Response::Error { kind, error }) = response {
        return Err(Error::failed(format!("{url} answered with an error, {kind}: {error}")));
    }
    answer.good(&url)?;
    let numbers = || match response.doing(|| "reading it as one of Prometheus")? {
        Response::Success { data } => data.numbers(),
        Response::Error { .. } => Ok(Vec::new()),
    };
    numbers().map_err(|error| error.during(format!("the answer of {url}")))
}

/// An answer; what else is in it is for others.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Response {
    Success {
        data: Data,
    },
    Error {
        #[serde(default, rename = "errorType")]
        kind: String,
        #[serde(default)]
        error: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar(Value),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Series {
    /// A histogram has none.
    value: Option<Value>,
}

/// Seconds since 1970, and the number as text.
#[derive(Debug, Deserialize)]
struct Value(IgnoredAny, String);

impl Data {
    fn numbers(&self) -> Result<Vec<f64>> {
        let wrong = |what| {
            Err(Error::failed(format!("the query gives {what}, and a gate needs one number a series")))
        };
        let values = match self {
            Self::Scalar(value) => vec![value],
            Self::Vector(series) => match series.iter().map(|series| series.value.as_ref()).collect() {
                Some(values) => values,
                None => return wrong("histograms"),
            },
            Self::Matrix(_) => return wrong("ranges (a matrix)"),
            Self::String(_) => return wrong("a text"),
        };
        values.into_iter().filter_map(|value| value.number().transpose()).collect()
    }
}

impl Value {
    fn number(&self) -> Result<Option<f64>> {
        let number: f64 = self.1.parse().doing(|| format!("reading {:?} as a number", self.1))?;
        Ok((!number.is_nan()).then_some(number))
    }
}
