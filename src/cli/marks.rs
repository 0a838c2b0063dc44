//! Tell: marks on images, whether quarantined or pinned.

use super::Context;
use super::fleet::table;
use crate::catalog::marks::Mark;

/// Lists marks; `word` is what marked images are, such as `pinned`, and the name of the JSON event.
pub fn list(context: &Context, all: &[Mark], word: &str) {
    for Mark { image, reason, by, at } in all {
        context.output.json(&serde_json::json!({
            "event": word, "image": image, "reason": reason, "by": by, "at": at,
        }));
    }
    for line in table(&all.iter().map(Mark::row).collect::<Vec<_>>()) {
        context.output.line(line);
    }
    if all.is_empty() {
        context.output.line(format!("no image is {word}"));
    }
}
