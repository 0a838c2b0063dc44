//! One process that rolls, stopped at each word with the outside: the real loop and the real journal, which are given
//! one answer at a time. A process that is stopped is kept as its memory at its last look and the answers since then:
//! giving it those again brings it to the same place.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use jiff::Timestamp;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use rekiln::error::{Error, Result};
use rekiln::fleet::census::{Census, Instance, InstanceId};
use rekiln::fleet::generation::Target;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::fleet::roll::{Order, Roll, Running};
use rekiln::fleet::surroundings::{News, Outlook, Reading, Surroundings};
use rekiln::fleet::{Fleet, Gate, Step};
use rekiln::progress::Silent;
use rekiln::provider::{Action, Outcome, Provider, ProviderError};

use crate::simulation::harness::now_or_never;

/// The name of the only fleet.
pub const NAME: &str = "web";

/// What a process asks of the outside; it is stopped until it is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Is there an entry of this number?
    Read(u64),
    /// Create the entry of this number.
    Write(u64, Arc<[u8]>),
    /// What is there?
    Look,
    Act(Action),
    Wait,
    /// Remember for all fleets that this target failed.
    Condemn(Target),
}

/// What the outside answers.
#[derive(Debug, Clone)]
pub enum Told {
    Entry(Option<Arc<[u8]>>),
    Written,
    /// Another process wrote it before.
    Taken,
    /// The entry is there, and the answer was lost.
    Unsure,
    Saw(Arc<Census>),
    Came(Outcome),
    /// The answer to an act was lost.
    NoAnswer,
    Failed,
    Outlook(Outlook),
    Went,
}

#[derive(Default)]
struct Script {
    /// What was answered, and when.
    answers: Vec<(Timestamp, Told)>,
    next: usize,
    now: Timestamp,
    outlook: Outlook,
    pending: Option<Request>,
}

thread_local! {
    /// That of the process which runs on this thread; only one does at a time, from one answer to the next request.
    static SCRIPT: RefCell<Script> = RefCell::default();
}

impl Script {
    fn told(&mut self) -> Option<Told> {
        let (at, told) = self.answers.get(self.next)?.clone();
        (self.next, self.now) = (self.next + 1, at);
        Some(told)
    }
}

fn ask(request: Request) -> impl Future<Output = Told> {
    poll_fn(move |_| {
        SCRIPT.with_borrow_mut(|script| {
            if let Some(told) = script.told() {
                return Poll::Ready(told);
            }
            script.pending = Some(request.clone());
            Poll::Pending
        })
    })
}

/// Where every process keeps its journal.
#[derive(Debug)]
pub struct Objects;

impl std::fmt::Display for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("every journal there can be")
    }
}

fn number(location: &Path) -> u64 {
    let name = location.filename().and_then(|name| name.strip_suffix(".json"));
    name.and_then(|name| name.parse().ok()).expect("the number of an entry")
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<PutResult> {
        let bytes: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
        match ask(Request::Write(number(location), bytes.into())).await {
            Told::Written => Ok(PutResult { e_tag: None, version: None, extensions: <_>::default() }),
            Told::Taken => {
                Err(StoreError::AlreadyExists { path: location.to_string(), source: "it is there".into() })
            }
            Told::Unsure => Err(StoreError::Generic { store: "model", source: "no answer".into() }),
            other => panic!("a write was answered with {other:?}"),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let memory = InMemory::new();
        match ask(Request::Read(number(location))).await {
            Told::Entry(Some(bytes)) => drop(memory.put(location, bytes.to_vec().into()).await?),
            Told::Entry(None) => {}
            other => panic!("a read was answered with {other:?}"),
        }
        memory.get_opts(location, options).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        unreachable!("a journal does not")
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        unreachable!("a journal does not")
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        unreachable!("a journal does not")
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        unreachable!("a journal does not")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        unreachable!("a journal does not")
    }
}

/// The provider and all that surrounds the fleet.
struct Outside;

impl Provider for Outside {
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    async fn census(&self) -> Result<Census, ProviderError> {
        match ask(Request::Look).await {
            Told::Saw(census) => Ok((*census).clone()),
            other => panic!("a look was answered with {other:?}"),
        }
    }

    async fn apply(&self, action: &Action) -> Result<Outcome, ProviderError> {
        match ask(Request::Act(action.clone())).await {
            Told::Came(outcome) => Ok(outcome),
            Told::NoAnswer => Err(ProviderError::Unclear("the answer was lost".to_owned())),
            Told::Failed => Err(ProviderError::Failed(Error::failed("the model's cloud says no"))),
            other => panic!("an act was answered with {other:?}"),
        }
    }

    async fn console_tail(&self, _: &InstanceId) -> Vec<String> {
        Vec::new()
    }

    fn now(&self) -> Timestamp {
        SCRIPT.with_borrow(|script| script.now)
    }

    async fn wait(&self, _: Duration) {
        ask(Request::Wait).await;
    }
}

impl Surroundings for Outside {
    async fn outlook(&self, targets: &[&Target], _: Timestamp) -> Result<Outlook> {
        // What was answered once is answered again, as all the rest: it may be another since.
        let mut all = SCRIPT.with_borrow_mut(|script| {
            if let Some(told) = script.told() {
                let Told::Outlook(outlook) = told else { panic!("an outlook was answered with {told:?}") };
                return outlook;
            }
            let outlook = script.outlook.clone();
            script.answers.push((script.now, Told::Outlook(outlook.clone())));
            script.next += 1;
            outlook
        });
        all.refused.retain(|(image, _)| targets.iter().any(|target| target.image == *image));
        Ok(all)
    }

    async fn judge(&self, _: &Gate, _: &Target, _: &Census) -> Reading {
        Reading::Pass
    }

    async fn hook(&self, _: Step, _: &InstanceId, _: Option<&Instance>, _: &str) -> Result<()> {
        Ok(())
    }

    async fn tell(&self, _: News<'_>) {}

    async fn condemn(&self, _: u64, target: &Target, _: bool, _: &str, _: Timestamp) -> Result<()> {
        ask(Request::Condemn(target.clone())).await;
        Ok(())
    }
}

/// What a process has in memory at the beginning of a look.
pub struct Memory {
    pub journal: Journal,
    /// `None` before it has begun.
    pub running: Option<Running>,
    pub at: Timestamp,
}

/// A process that rolls.
#[derive(Clone)]
pub struct Process {
    /// Which: told apart in the journal by its command.
    pub who: u32,
    /// Where it runs, when that is not here: its lease is then all that others know of its life.
    pub host: Option<&'static str>,
    pub target: Target,
    pub emergency: bool,
    pub memory: Arc<Memory>,
    /// What it was told since.
    pub answers: Vec<(Timestamp, Told)>,
    pub pending: Request,
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct End {
    /// As a shell sees it.
    pub code: u8,
    pub words: String,
}

pub fn writer(host: Option<&str>, who: u32) -> Writer {
    // Found out once, and not at each of a million steps.
    static HERE: LazyLock<String> = LazyLock::new(|| Writer::this("").host);
    let host = host.map_or_else(|| HERE.clone(), str::to_owned);
    // No process has the number 0: as far as others can tell, one from here is dead, and only the fence stops it.
    Writer { host, pid: 0, started: 0, command: format!("roller {who}") }
}

/// A journal in which nothing is.
pub fn empty(writer: Writer) -> Journal {
    SCRIPT.set(Script { answers: vec![(Timestamp::UNIX_EPOCH, Told::Entry(None))], ..Script::default() });
    now_or_never(Journal::over(Arc::new(Objects), NAME, writer)).expect("an answer").expect("a journal")
}

/// Reads on in a journal until it has all of `entries`.
pub fn read_on(journal: &mut Journal, entries: &[Arc<[u8]>], now: Timestamp) {
    let new = entries.iter().skip(journal.entries().len()).map(|bytes| Some(Arc::clone(bytes)));
    let answers = new.chain([None]).map(|entry| (now, Told::Entry(entry))).collect();
    SCRIPT.set(Script { answers, now, ..Script::default() });
    now_or_never(journal.follow()).expect("all answers").expect("a sound journal");
}

/// Lets a command of a second terminal write its entry. Returns what it writes; `None` when it refuses to.
pub fn command(
    journal: &mut Journal,
    event: rekiln::fleet::history::Event,
    now: Timestamp,
) -> Option<Arc<[u8]>> {
    SCRIPT.set(Script { now, ..Script::default() });
    let objection = rekiln::fleet::command::objection;
    if now_or_never(journal.command_unless(now, event, objection)).is_some() {
        return None;
    }
    match SCRIPT.take().pending {
        Some(Request::Write(_, bytes)) => Some(bytes),
        other => panic!("a command asks for {other:?}"),
    }
}

/// Begins a process. Returns how it ended when it did at once.
pub fn begin(
    fleet: &Fleet,
    mut process: Process,
    outlook: &Outlook,
    sure: impl FnMut(&Request) -> Option<Told>,
) -> Result<Process, End> {
    match process.go_on(fleet, outlook, sure) {
        None => Ok(process),
        Some(end) => Err(end),
    }
}

/// Runs a process until it ends, or asks what `sure` has no answer to.
fn run<T>(process: impl Future<Output = T>, sure: &mut impl FnMut(&Request) -> Option<Told>) -> Option<T> {
    let (mut process, mut context) = (pin!(process), Context::from_waker(Waker::noop()));
    loop {
        if let Poll::Ready(came) = process.as_mut().poll(&mut context) {
            return Some(came);
        }
        let request = SCRIPT.with_borrow_mut(|script| script.pending.clone()).expect("a request");
        let told = sure(&request)?;
        SCRIPT.with_borrow_mut(|script| script.answers.push((script.now, told)));
    }
}

impl Process {
    /// Goes on with one more answer until it asks what `sure` has no answer to. Returns how it ended when it did.
    pub fn answer(
        &mut self,
        fleet: &Fleet,
        outlook: &Outlook,
        (now, told): (Timestamp, Told),
        sure: impl FnMut(&Request) -> Option<Told>,
    ) -> Option<End> {
        self.answers.push((now, told));
        self.go_on(fleet, outlook, sure)
    }

    fn go_on(
        &mut self,
        fleet: &Fleet,
        outlook: &Outlook,
        mut sure: impl FnMut(&Request) -> Option<Told>,
    ) -> Option<End> {
        loop {
            let memory = Arc::clone(&self.memory);
            let by = writer(self.host, self.who);
            let mut journal = memory.journal.as_read_by(by);
            SCRIPT.set(Script {
                answers: std::mem::take(&mut self.answers),
                now: memory.at,
                outlook: outlook.clone(),
                ..Script::default()
            });
            let mut roll = Roll {
                name: NAME,
                fleet,
                target: self.target.clone(),
                provider: &Outside,
                surroundings: &Outside,
                journal: &mut journal,
                progress: &Silent,
                stop: &AtomicBool::new(false),
            };
            let came = if let Some(running) = &memory.running {
                let mut running = running.clone();
                let came = run(roll.turn(&mut running), &mut sure);
                came.map(|came| came.map(|done| (done, running)))
            } else {
                let order = Order {
                    reason: "a model".to_owned(),
                    wish: None,
                    emergency: self.emergency,
                    commit: None,
                };
                let came = run(roll.begin(order), &mut sure);
                came.map(|came| came.map(|running| (false, running)))
            };
            let Script { answers, now, pending, next, .. } = SCRIPT.take();
            assert_eq!(next, answers.len(), "a process was told what it did not ask for");
            match came {
                None => {
                    (self.answers, self.pending) = (answers, pending.expect("a request"));
                    return None;
                }
                Some(Ok((true, _))) => return Some(End { code: 0, words: "done".to_owned() }),
                Some(Ok((false, running))) => {
                    self.memory = Arc::new(Memory { journal, running: Some(running), at: now });
                }
                Some(Err(error)) => {
                    return Some(End { code: error.exit_code(), words: error.chain() });
                }
            }
        }
    }
}
