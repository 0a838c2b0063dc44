use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use hyper::header::{HeaderName, HeaderValue};

use super::*;
use crate::digest::Digest;

const TEXT: &str = "It's-a-Secret-to-Everybody";

fn secret() -> Secret {
    Secret::of(TEXT.as_bytes()).expect("long enough")
}

fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
    }
    headers
}

fn basic(pair: &[u8]) -> String {
    format!("Basic {}", BASE64.encode(pair))
}

fn hmac_of(body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, TEXT.as_bytes());
    let tag = hmac::sign(&key, body);
    Digest::from_bytes(tag.as_ref().try_into().expect("32 bytes")).to_string()
}

#[test]
fn the_example_that_github_documents() {
    // Its secret has spaces, which ours must not have.
    let text = b"It's a Secret to Everybody";
    let key = hmac::Key::new(hmac::HMAC_SHA256, text);
    let tag = hmac::sign(&key, text);
    let secret = Secret { key, tag };
    let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let good = headers(&[("X-Hub-Signature-256", good.as_bytes())]);
    assert!(secret.vouches(&good, b"Hello, World!"));
    assert!(!secret.vouches(&good, b"Hello, World"), "another body");
    assert!(!secret.vouches(&good, b""));
}

#[test]
fn every_way_to_say_it() {
    let signature = hmac_of(b"body");
    let prefixed = format!("sha256={signature}");
    let (bearer, with_colon) = (format!("bEaReR  {TEXT}"), basic(format!("sns:{TEXT}").as_bytes()));
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("authorization", &with_colon),
        ("authorization", &basic(format!(":{TEXT}").as_bytes())),
        ("x-gitlab-token", TEXT),
        ("x-api-key", TEXT),
        ("x-hub-signature-256", &prefixed),
        ("x-hub-signature-256", &format!("sha256={}", signature.to_uppercase())),
        ("x-gitea-signature", &signature),
        ("x-forgejo-signature", &signature),
    ] {
        let sent = headers(&[("x-other", b"1"), (name, value.as_bytes())]);
        assert!(secret().may_vouch(&sent) && secret().vouches(&sent, b"body"), "{name}: {value}");
    }
    let colons = Secret::of(b"a:secret:with:colons").expect("it may have them");
    assert!(colons.vouches(&headers(&[("authorization", basic(b"u:a:secret:with:colons").as_bytes())]), b""));
}

#[test]
fn every_way_to_get_it_wrong() {
    let signature = hmac_of(b"body");
    let of_secret = hmac_of(TEXT.as_bytes());
    for (name, value) in [
        ("authorization", TEXT.as_bytes()),
        ("authorization", b"Bearer"),
        ("authorization", b"Bearer "),
        ("authorization", b"Bearer It's-a-Secret-to-Everybod"),
        ("authorization", b"Bearer It's-a-Secret-to-Everybody!"),
        ("authorization", format!("Digest {TEXT}").as_bytes()),
        ("authorization", format!("Basic {TEXT}").as_bytes()),
        ("authorization", basic(TEXT.as_bytes()).as_bytes()),
        ("authorization", basic(format!("{TEXT}:").as_bytes()).as_bytes()),
        ("authorization", b"Basic ===="),
        ("authorization", b"Basic \xff\xfe"),
        ("authorization", format!("Bearer {of_secret}").as_bytes()),
        ("x-gitlab-token", b""),
        ("x-gitlab-token", b"\xff\xfe\xfd"),
        ("x-api-key", of_secret.as_bytes()),
        ("x-hub-signature-256", signature.as_bytes()),
        ("x-hub-signature-256", format!("sha1={signature}").as_bytes()),
        ("x-hub-signature-256", format!("sha256={}", &signature[..63]).as_bytes()),
        ("x-hub-signature-256", format!("sha256={}", &signature[..62]).as_bytes()),
        ("x-hub-signature-256", b"sha256="),
        ("x-hub-signature-256", "sha256=\u{e9}\u{e9}".as_bytes()),
        ("x-hub-signature-256", format!("sha256={of_secret}").as_bytes()),
        ("x-gitea-signature", format!("sha256={signature}").as_bytes()),
        ("x-gitea-signature", TEXT.as_bytes()),
        ("x-hub-signature", format!("sha256={signature}").as_bytes()),
        ("x-gitlab-token-2", TEXT.as_bytes()),
        ("cookie", TEXT.as_bytes()),
    ] {
        let sent = headers(&[(name, value)]);
        assert!(!secret().vouches(&sent, b"body"), "{name}: {}", String::from_utf8_lossy(value));
    }
    assert!(!secret().vouches(&HeaderMap::new(), b"body"));
    let twice = headers(&[("x-api-key", TEXT.as_bytes()), ("x-api-key", TEXT.as_bytes())]);
    assert!(!secret().vouches(&twice, b""), "which one counts is not for us to say");
}

#[test]
fn a_body_is_read_for_a_signature_only() {
    assert!(!secret().may_vouch(&HeaderMap::new()));
    assert!(!secret().may_vouch(&headers(&[("authorization", b"Bearer wrong"), ("x-api-key", b"wrong")])));
    assert!(secret().may_vouch(&headers(&[("x-hub-signature-256", b"sha256=00")])));
}

#[test]
fn files() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    let read = |text: &[u8], mode: u32| {
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        Secret::read(&path)
    };
    let sent = headers(&[("x-api-key", TEXT.as_bytes())]);
    for (text, mode) in [(format!("{TEXT}\n"), 0o600), (format!(" \t{TEXT}\r\n\n"), 0o440)] {
        assert!(read(text.as_bytes(), mode).expect("a secret").vouches(&sent, b""), "{text:?}");
    }
    for (text, mode, expected) in [
        ("", 0o600, "it is empty"),
        (" \n\t", 0o600, "it is empty"),
        ("15-characters-x\n", 0o600, "fewer than 16 characters"),
        ("first-line-long-enough\nsecond-line", 0o600, "white space"),
        ("n\u{f6}t-in-a-header-please", 0o600, "white space or other"),
        (&"x".repeat(5000), 0o600, "more than 4096"),
        (TEXT, 0o644, "everybody on this computer may use it (mode 0644)"),
        (TEXT, 0o602, "mode 0602"),
        (TEXT, 0o601, "mode 0601"),
    ] {
        let error = read(text.as_bytes(), mode).expect_err(expected);
        let chain = error.chain();
        assert!(chain.contains(expected) && chain.contains("reading the secret of webhooks"), "{chain}");
        assert!(!error.hints().is_empty(), "{chain}");
        assert!(text.trim().len() < 3 || !chain.contains(text.trim()), "{chain}");
    }
    assert!(Secret::read(&dir.path().join("none")).is_err());
    assert_eq!(format!("{:?}", secret()), "Secret(…)");
}
