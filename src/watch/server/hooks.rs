//! What is sent to the watcher. Nothing of a body is looked at before its sender is vouched for.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming as Body};
use hyper::{Method, StatusCode, header};
use tokio::sync::oneshot;

use super::answer::Reply;
use super::{Answer, Door, Incoming, Request};

/// Bytes of a body. GitHub's largest is 25 MiB, of which nothing is read here; alerts are kilobytes.
const LARGEST: usize = 1 << 20;

/// How long a body may take to come: 1 MiB over a line of 1 Mbit/s.
const READING: Duration = Duration::from_secs(10);

/// How long the sender is kept waiting for what becomes of it. GitHub waits 10 seconds, SNS 15 and
/// Alertmanager about 30; whoever gave up earlier sends it again, which does no harm.
const ANSWERING: Duration = Duration::from_secs(30);

/// The realm makes SNS, which sends no password unless it is asked for one, send it.
const CHALLENGE: &str = "Basic realm=\"rekiln\"";

/// Answers one of the hooks.
pub async fn answer(door: &Door, request: hyper::Request<Body>) -> Reply {
    let make: fn(Vec<u8>) -> Incoming = match request.uri().path() {
        "/hooks/alertmanager" => Incoming::Alertmanager,
        "/hooks/cloudwatch" => Incoming::CloudWatch,
        _ => |_| Incoming::Pushed,
    };
    match body(door, request).await {
        Ok(body) => hand_over(door, make(body)).await,
        Err(reply) => reply,
    }
}

/// Reads the body of somebody who knows the secret.
async fn body(door: &Door, request: hyper::Request<Body>) -> Result<Vec<u8>, Reply> {
    if request.method() != Method::POST {
        let reply = Reply::text(StatusCode::METHOD_NOT_ALLOWED, "this is sent to");
        return Err(reply.with(header::ALLOW, "POST"));
    }
    let Some(secret) = &door.secret else {
        return Err(Reply::text(StatusCode::NOT_FOUND, "no secret is configured, so there are no hooks"));
    };
    let (head, body) = request.into_parts();
    let unknown = || {
        let reply = Reply::text(StatusCode::UNAUTHORIZED, "the secret is missing or wrong");
        // Its body, which may be long and slow, is not waited for.
        reply.with(header::WWW_AUTHENTICATE, CHALLENGE).with(header::CONNECTION, "close")
    };
    if !secret.may_vouch(&head.headers) {
        return Err(unknown());
    }
    let closing = |status, text: &str| Reply::text(status, text).with(header::CONNECTION, "close");
    let too_large = || closing(StatusCode::PAYLOAD_TOO_LARGE, "more than 1 MiB is not taken");
    // Who says that it is too large is told before sending it.
    if body.size_hint().lower() > LARGEST as u64 {
        return Err(too_large());
    }
    let body = match tokio::time::timeout(READING, Limited::new(body, LARGEST).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(closing(StatusCode::BAD_REQUEST, "the body ended before its end")),
        Err(_) => return Err(closing(StatusCode::REQUEST_TIMEOUT, "the body did not come within 10 s")),
    };
    if secret.vouches(&head.headers, &body) { Ok(body.into()) } else { Err(unknown()) }
}

/// Says what came in to whoever knows what to do, and waits for the answer.
async fn hand_over(door: &Door, incoming: Incoming) -> Reply {
    let (answer, heard) = oneshot::channel();
    let exchange = async {
        door.incoming.send(Request { incoming, answer }).await.ok()?;
        heard.await.ok()
    };
    let later = |text: &str| Reply::text(StatusCode::SERVICE_UNAVAILABLE, text);
    match tokio::time::timeout(ANSWERING, exchange).await {
        Ok(Some(Answer::Taken(text))) => Reply::text(StatusCode::OK, &text),
        Ok(Some(Answer::Refused(text))) => Reply::text(StatusCode::BAD_REQUEST, &text),
        Ok(Some(Answer::NotNow(text))) => later(&text),
        Ok(None) => later("the watcher is about to end; send it again"),
        Err(_) => later("the watcher did not come to it within 30 s; send it again"),
    }
}
