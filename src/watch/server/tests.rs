//! What is decided; what is spoken is in `tests/watch_page`.

use super::*;
use crate::watch::metrics::sample::{NOW, view};

#[test]
fn names_of_hosts() {
    for (host, name) in [
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("a.example.:80", "a.example"),
        ("a.example", "a.example"),
        ("", ""),
        ("[", "["),
        (":", ""),
    ] {
        assert_eq!(without_port(host), name, "{host}");
    }
}

#[test]
fn health_is_how_old_the_view_is() {
    let of = |mine: bool, seconds: i64| {
        let mut view = view();
        view.lead.mine = mine;
        health(&view, NOW + SignedDuration::from_secs(seconds)).status
    };
    assert_eq!(of(true, 60), StatusCode::OK);
    assert_eq!(of(false, 0), StatusCode::OK, "a spare one is well");
    assert_eq!(of(true, -5), StatusCode::OK, "clocks differ");
    assert_eq!(of(true, 61), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn a_view_is_rendered_once() {
    let (sender, seen) = watch::channel(Arc::new(view()));
    let (incoming, _) = mpsc::channel(1);
    let desk = Desk::new(Door { view: seen, secret: None, incoming, hosts: Vec::new() });
    let first = desk.rendered();
    assert!(Arc::ptr_eq(&first, &desk.rendered()));
    assert_eq!(first.page().as_ptr(), first.page().as_ptr());
    sender.send_replace(Arc::new(view()));
    assert!(!Arc::ptr_eq(&first, &desk.rendered()), "a new one, though it says the same");
    assert_eq!(first.part(), desk.rendered().part());
}
