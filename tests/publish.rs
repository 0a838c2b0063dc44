//! `rekiln publish`, `verify-ami` and `reap` against an AWS on this machine that publishes as AWS does and fails in
//! every way it can: see `tests/aws/`.

mod attributes;
pub mod cloud;
mod collected;
mod delta;
mod faults;
mod inspect;
mod interrupted;
mod killed;
pub mod lanes;
mod refused;
pub mod roles;
pub mod stage;
pub mod tools;
mod verify;
mod whole;

use std::process::Command;

/// The section of a recipe with everything that it can say.
const EVERYTHING: &str = r#"regions = ["eu-central-1"]
accounts = ["210987654321"]
organisations = ["arn:aws:organizations::123456789012:organization/o-exampleorgid"]
kms = { eu-central-1 = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-4333-8444-555555555555" }
tags = { team = "web", stage = "test" }
deprecate_after = "90d"
parameter = "/images/web"
protect = true"#;

/// The operations of a list, each once, in the order of their first calls.
fn operations(calls: &[cloud::Call]) -> Vec<&cloud::Call> {
    let mut seen = Vec::new();
    for call in calls {
        if !seen.iter().any(|known: &&cloud::Call| known.operation == call.operation) {
            seen.push(call);
        }
    }
    seen
}

/// What all other tests stand on: boto3 finds that the endpoint and the proxy do what they say.
#[test]
fn the_endpoint_and_the_proxy_pass_their_own_test() {
    let mut python = Command::new("python3");
    python.arg("-B").arg(tools::scripts().join("self_test.py")).env("PYTHONPATH", tools::dir());
    let output = python.output().expect("python3 starts");
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("ok\n"), "{said}{failed}");
}
