//! What is answered to whoever asks, however they ask.

use std::io::{Read as _, Write as _};

use super::sample::{ago, busy, fleet, quiet};
use super::site::{SECRET, Site, rest, status};

#[test]
fn every_page_and_its_headers() {
    let site = Site::showing(busy());
    for (path, expected, kind) in [
        ("/", 200, "text/html; charset=utf-8"),
        ("/part", 200, "text/html; charset=utf-8"),
        ("/view.json", 200, "application/json"),
        ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
        ("/healthz", 200, "text/plain; charset=utf-8"),
        ("/icon.svg", 200, "image/svg+xml"),
        ("/?query", 200, "text/html; charset=utf-8"),
        ("/none", 404, "text/plain; charset=utf-8"),
        ("//", 404, "text/plain; charset=utf-8"),
        ("/../part", 404, "text/plain; charset=utf-8"),
        ("/hooks/none", 404, "text/plain; charset=utf-8"),
    ] {
        let (head, body) = site.get(path);
        assert_eq!(status(&head), expected, "{path}");
        for header in [
            &*format!("content-type: {kind}"),
            "content-security-policy: default-src 'none'; style-src 'sha256-",
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
            &format!("content-length: {}", body.len()),
        ] {
            assert!(head.contains(header), "{path}: {header}: {head}");
        }
        let (same, none) = site.ask("HEAD", path, &[], b"");
        assert_eq!((status(&same), none.as_str()), (expected, ""), "{path}");
        assert!(same.contains(&format!("content-type: {kind}")), "{path}: {same}");
    }
    let view: serde_json::Value = serde_json::from_str(&site.get("/view.json").1).expect("JSON");
    assert_eq!(view["fleets"].as_array().expect("fleets").len(), 3);
    assert!(site.get("/metrics").1.contains("rekiln_fleet_size{fleet=\"web\"} 40\n"));
    assert_eq!(site.get("/healthz").1, "ok: leads\n");
}

#[test]
fn methods() {
    let site = Site::showing(quiet());
    for path in ["/", "/part", "/view.json", "/metrics", "/healthz"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "ODD"] {
            let (head, _) = site.ask(method, path, &[], b"");
            assert_eq!(status(&head), 405, "{method} {path}");
            assert!(head.contains("allow: get, head"), "{head}");
        }
    }
    for method in ["GET", "HEAD", "PUT"] {
        let (head, _) = site.ask(method, "/hooks/git", &[], b"");
        assert!(status(&head) == 405 && head.contains("allow: post"), "{head}");
    }
    assert_eq!(status(&site.raw("this is not HTTP\r\n\r\n")), 400);
}

#[test]
fn names_by_which_it_is_reached() {
    let site = Site::showing(quiet());
    let asked = |path: &str, host: &str| site.status("GET", path, &[&format!("Host: {host}")], b"");
    for host in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "192.0.2.7",
        "localhost:1",
        "LocalHost",
        "watch.example",
        "Watch.Example.:443",
    ] {
        assert_eq!(asked("/", host), 200, "{host}");
    }
    for host in [
        "rebound.example",
        "rebound.example:80",
        "localhost.rebound.example",
        "127.0.0.1.example",
        "",
        "127.0.0.1@x",
    ] {
        for path in ["/", "/part", "/view.json"] {
            assert_eq!(asked(path, host), 421, "{host}{path}");
        }
        for path in ["/metrics", "/healthz"] {
            assert_eq!(asked(path, host), 200, "{host}{path}");
        }
    }
    assert_eq!(status(&site.raw("GET / HTTP/1.0\r\n\r\n")), 421, "a browser says where it goes");
    assert_eq!(status(&site.raw("GET /healthz HTTP/1.0\r\n\r\n")), 200);
    let whole = "GET http://rebound.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&site.raw(whole)), 421);
}

#[test]
fn a_part_is_sent_when_it_is_another() {
    let site = Site::showing(quiet());
    let tag = |head: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("a tag");
        line.trim().to_owned()
    };
    let (head, body) = site.get("/part");
    let first = tag(&head);
    assert!(head.contains("rekiln-seen: 20") && head.contains("rekiln-page: "), "{head}");
    for value in [first.clone(), format!("W/{first}"), format!("\"x\", {first}"), "*".to_owned()] {
        let (head, none) = site.ask("GET", "/part", &[&format!("If-None-Match: {value}")], b"");
        assert_eq!((status(&head), none.as_str(), tag(&head)), (304, "", first.clone()), "{value}");
    }
    for value in ["\"x\"", "", "W/", first.trim_matches('"')] {
        let (head, same) = site.ask("GET", "/part", &[&format!("If-None-Match: {value}")], b"");
        assert_eq!((status(&head), &same), (200, &body), "{value}");
    }
    let mut view = quiet();
    view.fleets.push(fleet("db", 2, 2));
    site.show(view);
    let (head, other) = site.ask("GET", "/part", &[&format!("If-None-Match: {first}")], b"");
    assert!(status(&head) == 200 && tag(&head) != first && other != body, "{head}");
}

#[test]
fn a_watcher_that_hangs_is_not_well() {
    let mut view = quiet();
    view.lead.mine = false;
    let site = Site::showing(view.clone());
    assert_eq!(site.get("/healthz").1, "ok: follows\n");
    view.at = ago(2);
    site.show(view);
    let (head, body) = site.get("/healthz");
    assert!(status(&head) == 503 && body.starts_with("the watcher hangs: it last looked 12"), "{head}{body}");
    assert_eq!(site.status("GET", "/", &[], b""), 200, "what it knew is shown");
}

#[test]
fn a_connection_is_kept() {
    let mut site = Site::showing(quiet());
    let mut stream = site.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        let mut answer = [0; 1024];
        let mut length = 0;
        while !answer[..length].ends_with(b"ok: leads\n") {
            length += stream.read(&mut answer[length..]).expect("an answer");
        }
    }
    site.stop();
    assert_eq!(rest(&mut stream), "", "who asks nothing does not keep the server from its end");
}

/// As many as are served at once send the first byte of a request and no more; one sends half a body.
#[test]
fn who_says_nothing_is_not_waited_for() {
    let site = Site::showing(quiet());
    let mut half = site.connect();
    let head = format!(
        "POST /hooks/git HTTP/1.1\r\nHost: x\r\nX-Api-Key: {SECRET}\r\nContent-Length: 10\r\n\r\nhalf"
    );
    half.write_all(head.as_bytes()).expect("sent");
    let silent = |_| {
        let mut stream = site.connect();
        stream.write_all(b"G").expect("sent");
        stream
    };
    let some: Vec<_> = (0..60).map(silent).collect();
    assert_eq!(site.get("/healthz").1, "ok: leads\n", "there is room for others");
    let more: Vec<_> = (60..70).map(silent).collect();
    assert_eq!(site.get("/healthz").1, "ok: leads\n", "there is room again, once they were waited for");
    let answer = rest(&mut half);
    assert!(status(&answer) == 408 && answer.contains("did not come within 10 s"), "{answer}");
    for mut stream in some.into_iter().chain(more) {
        let mut bytes = Vec::new();
        // Ended with or without a word.
        let _ = stream.read_to_end(&mut bytes);
    }
    assert!(site.heard_nothing());
}
