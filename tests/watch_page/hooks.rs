//! What senders of webhooks meet.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rekiln::digest::Digest;
use rekiln::watch::server::{Answer, Incoming};
use ring::hmac;

use super::sample::quiet;
use super::site::{SECRET, Site, rest, status};

fn signature(body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body);
    let digest = Digest::from_bytes(tag.as_ref().try_into().expect("32 bytes"));
    format!("X-Hub-Signature-256: sha256={digest}")
}

fn taken() -> Answer {
    Answer::Taken("the remote is asked".to_owned())
}

#[test]
fn what_is_vouched_for_comes_in() {
    let site = Site::showing(quiet());
    let basic = format!("Authorization: Basic {}", BASE64.encode(format!("sns:{SECRET}")));
    let body: &[u8] = b"{\"odd\": \"\xff\"}";
    for (path, header, expected) in [
        ("/hooks/git", signature(body), Incoming::Pushed),
        ("/hooks/git?x=y", format!("X-Gitlab-Token: {SECRET}"), Incoming::Pushed),
        (
            "/hooks/alertmanager",
            format!("Authorization: Bearer {SECRET}"),
            Incoming::Alertmanager(body.to_vec()),
        ),
        ("/hooks/cloudwatch", basic, Incoming::CloudWatch(body.to_vec())),
        ("/hooks/cloudwatch", format!("X-Api-Key: {SECRET}"), Incoming::CloudWatch(body.to_vec())),
    ] {
        let ask = || site.ask("POST", path, &[&header], body);
        let (incoming, (head, told)) = site.answering(Some(taken()), ask);
        assert_eq!(
            (incoming, status(&head), told.as_str()),
            (expected, 200, "the remote is asked\n"),
            "{path}"
        );
    }
    // Any name will do: it is no browser that asks, and the secret is.
    let ask = || site.status("POST", "/hooks/git", &["Host: any.example", &signature(b"x")], b"x");
    assert_eq!(site.answering(Some(taken()), ask), (Incoming::Pushed, 200));
}

#[test]
fn what_becomes_of_it_is_told() {
    let site = Site::showing(quiet());
    for (answer, expected, text) in [
        (Some(Answer::NotNow("another watcher leads".to_owned())), 503, "another watcher leads\n"),
        (Some(Answer::Refused("no alert".to_owned())), 400, "no alert\n"),
        (None, 503, "the watcher is about to end; send it again\n"),
    ] {
        let ask = || site.ask("POST", "/hooks/git", &[&signature(b"{}")], b"{}");
        let (_, (head, told)) = site.answering(answer, ask);
        assert_eq!((status(&head), told.as_str()), (expected, text));
    }
}

#[test]
fn who_does_not_know_the_secret_is_not_listened_to() {
    let site = Site::showing(quiet());
    for headers in [
        &[][..],
        &["X-Gitlab-Token: wrong"],
        &["Authorization: Bearer wrong"],
        &["Authorization: Basic d3Jvbmc6d3Jvbmc="],
        &[&*signature(b"another body")],
        &["X-Hub-Signature-256: sha256="],
    ] {
        let (head, body) = site.ask("POST", "/hooks/alertmanager", headers, b"{}");
        assert!(status(&head) == 401 && head.contains("www-authenticate: basic realm=\"rekiln\""), "{head}");
        assert!(!body.contains(SECRET) && !body.contains("wrong:"), "{body}");
    }
    // Nothing of the body is there yet, and nothing of it is asked for.
    let answer = site.raw("POST /hooks/git HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    assert_eq!(status(&answer), 401);
    assert!(site.heard_nothing());
}

#[test]
fn a_body_has_an_end() {
    let site = Site::showing(quiet());
    let key = format!("X-Api-Key: {SECRET}");
    let largest = vec![b'x'; 1 << 20];
    let ask = || site.status("POST", "/hooks/alertmanager", &[&key], &largest);
    let (incoming, status_of_it) = site.answering(Some(taken()), ask);
    assert_eq!((incoming, status_of_it), (Incoming::Alertmanager(largest.clone()), 200));
    let head = format!("POST /hooks/alertmanager HTTP/1.1\r\nHost: x\r\n{key}\r\n");
    let answer = site.raw(format!("{head}Content-Length: {}\r\n\r\n", (1 << 20) + 1));
    assert_eq!(status(&answer), 413, "it is told before it is sent");
    let mut stream = site.connect();
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n100001\r\n").as_bytes()).expect("sent");
    stream.write_all(&largest).expect("sent");
    stream.write_all(b"x").expect("sent");
    assert_eq!(status(&rest(&mut stream)), 413, "it never said how much it is");
    let mut stream = site.connect();
    stream.write_all(format!("{head}Content-Length: 10\r\n\r\nhalf").as_bytes()).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    let answer = rest(&mut stream);
    assert!(answer.is_empty() || status(&answer) == 400, "{answer}");
    assert!(site.heard_nothing());
}

#[test]
fn without_a_secret_there_are_no_hooks() {
    let site = Site::start(quiet(), None);
    let (head, body) = site.ask("POST", "/hooks/git", &[&signature(b"{}")], b"{}");
    assert!(status(&head) == 404 && body.starts_with("no secret is configured"), "{head}{body}");
    assert!(site.heard_nothing());
}
