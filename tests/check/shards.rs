//! Several fleets under one file, as `check` sees them.

use super::{edit, rekiln, repository, stderr, stdout};

/// Three shards behind doors of their own, and a fleet that is rolled after them.
const CELLS: &str = "image = \"web\"
size = 3
after = [\"web\"]
[local]
port = 80
[health]
http = { port = 80, path = \"/\" }
[[shard]]
name = \"z\"
listen = \"127.0.0.1:9001\"
[[shard]]
name = \"a\"
listen = \"127.0.0.1:9002\"
size = 5
[[shard]]
name = \"m\"
listen = \"127.0.0.1:9003\"
";

const FILE: &str = "fleets/cells.toml";

#[test]
fn shards_that_are_fine() {
    let dir = repository();
    std::fs::write(dir.path().join(FILE), CELLS).expect("written");
    std::fs::write(dir.path().join("fleets/edge.toml"), {
        let text = std::fs::read_to_string(dir.path().join("fleets/web.toml")).expect("a fleet");
        format!("after = [\"cells\", \"cells-a\"]\n{}", text.replace("8080", "9004"))
    })
    .expect("written");
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "2 recipes, 4 templates and 5 fleets are fine\n");
    // One shard is a fleet with a longer name, and none is the fleet itself.
    let one = &CELLS[..CELLS.find("[[shard]]\nname = \"a\"").expect("a second shard")];
    std::fs::write(dir.path().join(FILE), one).expect("written");
    edit(dir.path(), "fleets/edge.toml", ", \"cells-a\"", "");
    assert_eq!(rekiln(dir.path(), &["check"]).status.code(), Some(0));
    let none = CELLS[..CELLS.find("[[shard]]").expect("a shard")]
        .replace("port = 80\n[health]", "port = 80\nlisten = \"127.0.0.1:9001\"\n[health]");
    std::fs::write(dir.path().join(FILE), format!("shard = []\n{none}")).expect("written");
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// What is wrong with what all share is told once, and what is wrong with one shard at its line.
#[test]
fn shards_that_are_not() {
    let dir = repository();
    std::fs::write(dir.path().join(FILE), CELLS).expect("written");
    edit(dir.path(), FILE, "after = [\"web\"]", "after = [\"wbe\", \"cells-z\"]");
    edit(dir.path(), FILE, "path = \"/\"", "path = \"x\"");
    edit(dir.path(), FILE, "port = 80, ", "port = 81, ");
    edit(dir.path(), FILE, "9002", "9001");
    edit(dir.path(), FILE, "size = 5", "size = 0");
    edit(dir.path(), FILE, "listen = \"127.0.0.1:9003\"\n", "");
    std::fs::copy(dir.path().join("fleets/web.toml"), dir.path().join("fleets/cells-m.toml"))
        .expect("copied");
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    insta::assert_snapshot!(stderr(&output), @r###"
    fleets/cells-m.toml: `cells-m` is a shard of fleets/cells.toml already: another name

    fleets/cells.toml:3:9: the fleet is rolled after itself: cells → cells
      3 | after = ["wbe", "cells-z"]
        |         ^^^^^^^^^^^^^^^^^^

    fleets/cells.toml:3:10: there is no fleet `wbe`
      3 | after = ["wbe", "cells-z"]
        |          ^^^^^
      help: did you mean `web`?

    fleets/cells.toml:7:17: the image `web` does not declare port 81
      7 | http = { port = 81, path = "x" }
        |                 ^^
      help: add "81/tcp" to [services] ports in images/web.toml

    fleets/cells.toml:7:28: `x` is not a request path: it begins with `/`
      7 | http = { port = 81, path = "x" }
        |                            ^^^

    fleets/cells.toml:13:10: 127.0.0.1:9001 is `listen` of shard `z`
      13 | listen = "127.0.0.1:9001"
         |          ^^^^^^^^^^^^^^^^

    fleets/cells.toml:14:8: 0 instances is nonsense: at least 1
      14 | size = 0
         |        ^

    fleets/cells.toml:15:1: this does not say where its clients come in: `listen` is missing
      15 | [[shard]]
         | ^^^^^^^^^

    fleets/cells.toml:16:8: `cells-m` is fleets/cells-m.toml already: another name
      16 | name = "m"
         |        ^^^

    error: 9 errors in the repository's files
    "###);
    // Nothing is done with any of them before that is mended, and a name that means several is not one of them.
    for args in [["roll", "cells"], ["roll", "cells-z"], ["simulate", "cells-m"]] {
        let output = rekiln(dir.path(), &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains("in the repository's files"), "{args:?}: {}", stderr(&output));
    }
}

/// A circle is told in terms of files, which is what people write.
#[test]
fn shards_that_come_after_themselves() {
    let dir = repository();
    std::fs::write(dir.path().join(FILE), CELLS).expect("written");
    let text = std::fs::read_to_string(dir.path().join("fleets/web.toml")).expect("a fleet");
    std::fs::write(dir.path().join("fleets/web.toml"), format!("after = [\"cells-m\"]\n{text}"))
        .expect("written");
    let output = rekiln(dir.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    for said in [
        "fleets/cells.toml:3:9: the fleet is rolled after itself: cells → web → cells\n",
        "fleets/web.toml:1:9: the fleet is rolled after itself: web → cells → web\n",
        "error: 2 errors in the repository's files\n",
    ] {
        assert!(stderr(&output).contains(said), "{said}: {}", stderr(&output));
    }
}
