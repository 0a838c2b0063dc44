//! What is refused before anything is made.

use std::fs;

use serde_json::json;

use super::site::{ACCOUNT, Site, VENDOR, vendor};
use crate::publish::stage::Stage;

/// Bakes, which must fail with these words and without a call that changes something.
fn refuses(site: &Site, words: &[&str]) {
    site.stage.cloud.forget_calls();
    let ended = site.bake().must(1);
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    assert_eq!(site.stage.cloud.changes(), [""; 0], "{}", ended.stderr);
    site.nothing_is_left();
}

#[test]
fn an_ami_that_is_not_what_the_recipe_says_is_not_launched() {
    let site = Site::new("127.31");
    // Whose it is.
    site.recipe_of(&site.ami, "999999999999", "", "");
    refuses(
        &site,
        &[
            &format!("is owned by {VENDOR}, and the recipe says `owner = \"999999999999\"`"),
            "anyone can publish",
        ],
    );
    site.recipe_of(&site.ami, "self", "", "");
    refuses(&site, &["is owned by"]);
    site.recipe_of("ami-0123456789abcdef0", VENDOR, "", "");
    refuses(&site, &["there is no AMI ami-0123456789abcdef0 in eu-central-1"]);
    // Where it is baked.
    site.recipe("account = \"111122223333\"", "");
    refuses(&site, &[&format!("these credentials are of account {ACCOUNT}")]);
    // What it is grown to.
    site.recipe("size = \"1G\"", "");
    let ended = site.bake().must(2);
    assert!(ended.stderr.contains("has a disk of 2 GiB, which cannot be made smaller"), "{}", ended.stderr);
    site.nothing_is_left();
}

#[test]
fn nothing_is_launched_where_there_is_no_place() {
    let site = Site::new("127.32");
    let stage: &Stage = &site.stage;
    // moto's accounts have a default VPC: without its subnets there is none.
    let default = stage
        .cloud
        .ec2("eu-central-1", "Action=DescribeSubnets&Filter.1.Name=default-for-az&Filter.1.Value.1=true");
    for id in default.split("<subnetId>").skip(1).filter_map(|rest| rest.split('<').next()) {
        stage.cloud.ec2("eu-central-1", &format!("Action=DeleteSubnet&SubnetId={id}"));
    }
    site.recipe("subnets = []", "");
    refuses(&site, &["eu-central-1 has no default VPC", "name `subnets` in [source] ami"]);
    site.recipe("subnets = [\"subnet-0123456789abcdef0\"]", "");
    refuses(&site, &["DescribeSubnets", "subnet-0123456789abcdef0"]);
}

#[test]
fn an_ami_with_the_images_name_that_nobody_checked_is_not_used_and_one_with_findings_is_refused() {
    let site = Site::new("127.33");
    let id = site.stage.run(&["id", "vendor"]).must(0).stdout;
    let id = id.split('"').find(|word| word.len() == 64).expect("an id").to_owned();
    let name = format!("rekiln/vendor/{}", &id[..16]);
    let disk = site.stage.path("vendor.raw");
    vendor(&site.stage, &disk, &name, &json!({ "owner": ACCOUNT, "tags": { "rekiln:image": id } }));
    refuses(&site, &["has the name of this image", "is not a finished image of it", "rekiln reap"]);
    assert!(fs::metadata(&disk).is_ok());
}
