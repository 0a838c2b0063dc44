//! Paragraphs of `Field: value` lines, as in Packages, status and sources files.

/// One paragraph; fields in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stanza {
    fields: Vec<(String, String)>,
}

/// What the dependency resolution needs to know about an installed package.
const RELATIONS: &[&str] = &[
    "Package",
    "Version",
    "Architecture",
    "Multi-Arch",
    "Essential",
    "Source",
    // apt takes an installed package whose size differs from the index's for another build, and replaces it.
    "Installed-Size",
    "Provides",
    "Pre-Depends",
    "Depends",
    "Conflicts",
    "Breaks",
    "Replaces",
];

impl Stanza {
    /// Returns the value of the field of this name, in any case; continuation lines are joined by a line feed.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Writes the paragraph as dpkg's status file has it for an installed package.
    #[must_use]
    pub fn installed(&self) -> String {
        let line = |name: &&str| {
            let value = self.field(name)?.replace('\n', "\n ");
            Some(format!("{name}: {value}\n"))
        };
        let fields: String = RELATIONS.iter().filter_map(line).collect();
        format!("{fields}Status: install ok installed\nMaintainer: none\nDescription: locked\n\n")
    }
}

/// Parses paragraphs, separated by empty lines; lines that start with `#` are comments.
#[must_use]
pub fn parse(text: &str) -> Vec<Stanza> {
    let mut stanzas = Vec::new();
    let mut now = Stanza::default();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.trim().is_empty() {
            if !now.fields.is_empty() {
                stanzas.push(std::mem::take(&mut now));
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = now.fields.last_mut() {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            now.fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    if !now.fields.is_empty() {
        stanzas.push(now);
    }
    stanzas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_fields_and_continuations() {
        let stanzas = parse("Package: a\nDepends: b,\n c (>= 1)\nFilename: pool/a.deb\n\n\n\nPackage: d\n");
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[0].field("depends"), Some("b,\nc (>= 1)"));
        assert_eq!(stanzas[1].field("Package"), Some("d"));
        assert_eq!(stanzas[1].field("Version"), None);
        let status = stanzas[0].installed();
        assert!(
            status.starts_with("Package: a\n") && status.contains("\nStatus: install ok installed\n"),
            "{status}"
        );
        assert!(status.contains("Depends: b,\n c (>= 1)\n") && !status.contains("Filename"), "{status}");
    }
}
