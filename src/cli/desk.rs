//! What the commands to a rollout share: a second terminal that writes into the journal of a fleet.

use jiff::Timestamp;

use super::Context;
use crate::catalog::quarantine::Quarantine;
use crate::digest::ImageId;
use crate::error::{Error, Result};
use crate::fleet::command::{Next, Objection, objection, over};
use crate::fleet::history::{Event, History};
use crate::fleet::journal::{Journal, Writer};
use crate::objects::Objects;
use crate::repository::Repository;

/// Reads why something is done; nothing is no reason.
///
/// # Errors
/// Nothing but blanks.
pub fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        Err("say why, for whoever reads the journal".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// A fleet's journal, for one command. The fleet's file need not be sound: it may be why someone wants to stop.
pub struct Desk<'a> {
    context: &'a Context,
    fleet: &'a str,
    /// Where it is kept what fleets have to know of each other.
    places: Vec<Objects>,
    journal: Journal,
}

impl<'a> Desk<'a> {
    /// # Errors
    /// No such fleet; its journal cannot be read.
    pub async fn open(context: &'a Context, fleet: &'a str, command: &str) -> Result<Self> {
        Repository::open(&context.repo)?.has_fleet(fleet)?;
        let store = context.store()?;
        let writer = Writer::this(format!("rekiln {command} {fleet}"));
        let journals = context.journals(fleet).await?;
        let journal = Journal::open(&journals, fleet, writer).await?;
        Ok(Self { context, fleet, places: store.and(&journals), journal })
    }

    pub const fn history(&self) -> &History {
        self.journal.history()
    }

    /// # Errors
    /// No rollout has begun, or the last one has ended.
    pub fn refuse_over(&self) -> Result<()> {
        match over(self.history(), Next::Roll) {
            Some(objection) => Err(self.refusal(&objection)),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The image is quarantined, or nobody can tell.
    pub async fn refuse_quarantined(&self, image: ImageId) -> Result<()> {
        refuse_quarantined(&self.places, image).await
    }

    /// Writes a command, unless it has no meaning, and tells what comes of it: `text` when it was written, and `idle`
    /// where no process is there to take it up.
    ///
    /// # Errors
    /// The command has no meaning now; the journal cannot be written.
    pub async fn say(
        &mut self,
        word: &str,
        event: Event,
        text: &str,
        idle: &str,
        next: &[String],
    ) -> Result<u8> {
        let (context, fleet) = (self.context, self.fleet);
        let said = self.journal.command_unless(Timestamp::now(), event, objection).await?;
        if let Some(refused @ Objection::Refused { .. }) = &said {
            return Err(self.refusal(refused));
        }
        let roller = self.journal.roller(Timestamp::now()).map(|entry| &entry.by);
        context.output.json(&serde_json::json!({
            "event": word, "fleet": fleet, "written": said.is_none(),
            "why_not": said.as_ref().map(ToString::to_string), "roller": roller,
        }));
        if let Some(objection) = said {
            context.output.line(format!("fleet {fleet} {objection}; nothing to do"));
            return Ok(0);
        }
        context.output.line(format!("fleet {fleet} {text}"));
        match roller {
            Some(Writer { host, pid, command, .. }) => context
                .output
                .line(format!("`{command}` (process {pid} on {host}) takes it up before its next act")),
            None => context.output.line(format!("nobody rolls it now; {idle}")),
        }
        for next in next {
            context.output.hint(next);
        }
        Ok(0)
    }

    fn refusal(&self, objection: &Objection) -> Error {
        let fleet = self.fleet;
        let error = Error::invalid(format!("fleet {fleet} {objection}"));
        let Objection::Refused { next, .. } = objection else { return error };
        error.hint(match next {
            Next::Roll => format!("`rekiln roll {fleet}` begins a rollout"),
            Next::RollBack => format!("`rekiln roll {fleet} --to previous` rolls it back"),
            Next::Cancel => {
                format!("`rekiln cancel {fleet} --reason TEXT` stops it and leaves everything as it is")
            }
        })
    }
}

/// # Errors
/// The image is quarantined, or nobody can tell.
pub async fn refuse_quarantined(places: &[Objects], image: ImageId) -> Result<()> {
    let Some(found) = Quarantine::new(places).get(image).await? else { return Ok(()) };
    let image = image.short();
    Err(Error::invalid(format!("image {image} must not be launched: it is quarantined {found}"))
        .hint(format!("`rekiln quarantine clear {image}` lets it be launched again")))
}
