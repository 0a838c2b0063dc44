//! `rekiln inspect` of an AMI and of a snapshot: what is found is what is found on the disk, and only what is looked at is
//! fetched.

use serde_json::{Value, json};

use super::stage::{REGION, Stage};
use crate::foreign::{Root, must_be_vendors, vendor_disk};

#[test]
fn an_ami_is_inspected_like_its_disk() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().expect("made");
    for root in [Root::Ext4, Root::Xfs] {
        stage.clear();
        let disk = vendor_disk(&dir.path().join(format!("{}", root == Root::Xfs)), root);
        let image = stage.image_of(&disk);
        let published = &stage.publish(&image)[0];
        let (ami, snapshot) =
            (published["ami"].as_str().expect("an id"), published["snapshot"].as_str().expect("an id"));
        let inspect = |what: &[&str]| {
            let all = [&["inspect"], what].concat();
            stage.run(&all).must(1).events("inspection").remove(0)
        };
        let on_disk = inspect(&[disk.to_str().expect("text")]);
        stage.cloud.forget_calls();
        let in_cloud = inspect(&[ami, "--region", REGION]);
        must_be_vendors(&in_cloud, root);
        assert_eq!(in_cloud["findings"], on_disk["findings"]);
        assert_eq!(in_cloud["inventory"], on_disk["inventory"]);
        let calls = stage.cloud.calls();
        assert_eq!(calls.iter().filter(|call| call.mutating.is_some()).count(), 0, "it only reads");
        let fetched = calls.iter().filter(|call| call.operation == "GetSnapshotBlock").count();
        assert!(fetched > 0 && fetched <= image.blocks.len(), "{fetched} of {}", image.blocks.len());
        assert_eq!(inspect(&[snapshot, "--region", REGION])["findings"], on_disk["findings"]);
        assert_eq!(std::fs::read_dir(stage.store().tmp()).map_or(0, Iterator::count), 0, "nothing is left");
        // A broken line is no reason to stop.
        for fault in ["500", "truncate"] {
            let rules: Vec<Value> = super::operations(&calls)
                .into_iter()
                .map(|call| json!({ "operation": call.operation, "do": fault }))
                .collect();
            stage.cloud.rules(&json!(rules));
            assert_eq!(inspect(&[ami, "--region", REGION])["findings"], on_disk["findings"], "{fault}");
        }
    }
    let says = |args: &[&str], code: i32, words: &str| {
        let ended = stage.run(args).must(code);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    says(&["inspect", "ami-0123456789abcdef0"], 2, "--region");
    says(&["inspect", "ami-0123456789abcdef0", "--region", REGION], 1, "there is no AMI");
    says(&["inspect", "web", "--region", REGION], 2, "--region");
    says(&["inspect", "ami-0123456789abcdef0", "--region", "nowhere"], 2, "no AWS region");
}
