//! The picture on a page.

use std::fmt::Write as _;

use super::Timeline;
use crate::markup::escape;

/// The colours are those of the picture, so that both are one page.
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{margin:2rem auto;max-width:960px;padding:0 1rem;background:#ffffff;color:#1f2933;\
font:15px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\
h1{font-size:1.4rem;font-weight:600}svg{width:100%;height:auto}\
table{border-collapse:collapse;margin-top:1rem}\
th,td{text-align:left;vertical-align:top;padding:.3rem 2rem .3rem 0;border-bottom:1px solid #e3e7ec}\
th{font-weight:normal;color:#5d6976;white-space:nowrap}td{overflow-wrap:anywhere}\
@media (prefers-color-scheme:dark){\
body{background:#14181d;color:#e4e8ec}th,td{border-color:#2b323a}th{color:#a2adb8}}";

pub(super) fn page(timeline: &Timeline, title: &str, facts: &[(String, String)]) -> String {
    let mut rows = String::new();
    for (name, value) in facts {
        // Writing to a string cannot fail.
        let _ = writeln!(rows, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value));
    }
    // A table without rows is read out as a table all the same.
    let table = if rows.is_empty() { String::new() } else { format!("<table>\n{rows}</table>\n") };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{}{table}</body>\n</html>\n",
        timeline.svg(),
        title = escape(title),
    )
}
