//! Decide: what a fleet does about an alert, put together from its file and the playbook that it names.

use jiff::SignedDuration;

use crate::fleet::Alert;
use crate::fleet::playbook::{Kind, Playbook, Step};

/// A rule as decisions need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The alert's name and the labels that it must have: `HighErrorRate{severity="page"}`.
    pub name: String,
    /// So long after it was heard, the instance is replaced.
    pub within: SignedDuration,
    /// How many instances it may take in an hour.
    pub limit: usize,
    /// How many steps its playbook has that are carried out here; 0 without a playbook.
    pub steps: usize,
    /// Whether the instance is replaced after the last step, whatever time is left.
    pub rotates: bool,
}

impl Rule {
    /// Puts a rule together with its playbook, if it has one.
    ///
    /// # Errors
    /// What a file says that is not valid.
    pub fn of(alert: &Alert, playbook: Option<&Playbook>) -> Result<Self, String> {
        let kinds = playbook.iter().flat_map(|playbook| &playbook.steps).map(Step::kind);
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        let rotates = kinds.last() == Some(&Kind::Rotate);
        let labels: Vec<String> =
            alert.labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        Ok(Self {
            name: format!("{}{labels}", alert.name),
            within: alert.within()?.try_into().map_err(|_| "`within` is too long".to_owned())?,
            limit: usize::try_from(alert.limit()?).unwrap_or(usize::MAX),
            steps: kinds.len() - usize::from(rotates),
            rotates,
        })
    }
}
