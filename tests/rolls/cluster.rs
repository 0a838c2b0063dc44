//! A cluster that holds data, played at the addresses of a group's instances: one strict model, asked in the documented JSON, or
//! as Patroni and etcd are. Members call each other by EC2's ids, as they would: it is what an instance knows of itself.
//!
//! What happens to it is written down in order, and whatever must never happen is kept for the test to find.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{sleep, spawn};

use serde_json::{Value, json};

use crate::publish::cloud::LOOK;
use crate::publish::stage::Stage;

/// Where members answer, which is where the image serves, and the etcd beside each.
pub const PORT: u16 = 80;
pub const ETCD: u16 = 2379;
/// The login of Patroni's REST API, and as base 64 has it.
pub const PASSWORD: &str = "s3cret";
const LOGIN: &str = "Basic cmVraWxuOnMzY3JldA==";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    Joined(String),
    CaughtUp(String),
    HandedOver {
        from: String,
        to: String,
    },
    NotNow,
    Elected(String),
    Deregistered(String),
    /// Its machine ended.
    Ended(String),
}

/// A member whose machine runs.
#[derive(Debug)]
struct Member {
    address: IpAddr,
    /// In how many looks it has all data.
    copies: u32,
    /// Ends those who answer for it.
    over: Arc<AtomicBool>,
}

/// What is so.
#[derive(Debug, Default)]
pub struct Model {
    members: BTreeMap<String, Member>,
    leader: Option<String>,
    /// Without it no write is acknowledged.
    synchronous: Option<String>,
    /// Who is registered, by its number; whoever ended stays until it is removed.
    registered: BTreeMap<String, u64>,
    /// Who was ever seen: an instance that ended does not come back.
    seen: BTreeSet<String>,
    /// How many looks a new one copies.
    pub copying: u32,
    /// How often a handover is not possible at the moment.
    pub not_now: u32,
    /// The leader does not answer who asks what it is.
    pub silent: bool,
    /// A handover is done, and not answered.
    pub unanswered: bool,
    /// Somebody else ends machines now: that one leads is no fault of whoever rolls.
    pub disaster: bool,
    pub happened: Vec<Happened>,
    /// What must never happen, and did.
    pub broken: Vec<String>,
    /// How often it was looked.
    pub looks: u64,
}

impl Model {
    fn alive(&self, id: &str) -> bool {
        self.members.contains_key(id)
    }

    fn has_all(&self, id: &str) -> bool {
        self.members.get(id).is_some_and(|member| member.copies == 0)
    }

    fn votes(&self, id: &str) -> bool {
        // One that ended had all data, or it would have had no vote; nobody takes that away but by removing it.
        self.registered.contains_key(id) && (!self.alive(id) || self.has_all(id))
    }

    /// Whether more than half of the voters answer.
    fn decides(&self) -> bool {
        let voters = self.registered.keys().filter(|id| self.votes(id));
        let (alive, all) =
            voters.fold((0, 0), |(alive, all), id| (alive + usize::from(self.alive(id)), all + 1));
        2 * alive > all
    }

    /// Takes up who runs, with its address; the first ones have all data.
    fn follow(&mut self, running: &BTreeMap<String, IpAddr>) -> Vec<(String, Vec<TcpListener>)> {
        let gone: Vec<_> = self.members.keys().filter(|id| !running.contains_key(*id)).cloned().collect();
        for id in gone {
            self.end(&id);
        }
        let first = self.seen.is_empty();
        let mut opened = Vec::new();
        for (id, address) in running
            .iter()
            .filter(|(id, _)| !self.seen.contains(*id))
            .map(|(id, at)| (id.clone(), *at))
            .collect::<Vec<_>>()
        {
            let bind = |port| TcpListener::bind(SocketAddr::new(address, port));
            // Whoever had the address may not have let go of it yet.
            let (Ok(face), Ok(etcd)) = (bind(PORT), bind(ETCD)) else { continue };
            self.seen.insert(id.clone());
            let copies = if first { 0 } else { self.copying };
            self.members.insert(id.clone(), Member { address, copies, over: Arc::default() });
            let number = self.seen.len() as u64 + 9_372_538_179_322_589_801;
            self.registered.insert(id.clone(), number);
            if first && self.leader.is_none() {
                self.leader = Some(id.clone());
            }
            if !first {
                self.happened.push(Happened::Joined(id.clone()));
            }
            opened.push((id, vec![face, etcd]));
        }
        self.settle();
        opened
    }

    fn end(&mut self, id: &str) {
        if let Some(member) = self.members.remove(id) {
            member.over.store(true, Ordering::Relaxed);
        }
        self.happened.push(Happened::Ended(id.to_owned()));
        let leads = self.leader.as_deref() == Some(id);
        if leads {
            self.leader = None;
        }
        if self.disaster {
            return;
        }
        if leads {
            self.broken.push(format!("{id} led, and was ended"));
        }
        if !self.decides() {
            self.broken.push(format!("without {id} too few votes are left: {self:?}"));
        }
        let others =
            self.members.keys().filter(|other| self.has_all(other) && self.leader.as_ref() != Some(other));
        if others.count() == 0 {
            self.broken.push(format!("without {id} nobody beside the leader has all data: {self:?}"));
        }
        if self.registered.contains_key(id) && self.has_all(id) {
            self.broken.push(format!("{id} was ended with its vote"));
        }
    }

    /// What members do by themselves.
    fn settle(&mut self) {
        if self.leader.is_none() && self.decides() {
            let heir = self.synchronous.clone().filter(|id| self.has_all(id));
            if let Some(heir) = heir {
                self.happened.push(Happened::Elected(heir.clone()));
                self.leader = Some(heir);
            }
        }
        if self.leader.is_some()
            && self
                .synchronous
                .as_ref()
                .is_none_or(|id| !self.has_all(id) || self.leader.as_ref() == Some(id))
        {
            let free = self.members.keys().find(|id| self.has_all(id) && self.leader.as_ref() != Some(id));
            self.synchronous = free.cloned();
        }
    }

    fn copy(&mut self, id: &str) {
        if self.leader.is_none() || !self.decides() {
            return;
        }
        if let Some(member) = self.members.get_mut(id).filter(|member| member.copies > 0) {
            member.copies -= 1;
            if member.copies == 0 {
                self.happened.push(Happened::CaughtUp(id.to_owned()));
                self.settle();
            }
        }
    }

    fn hand_over(&mut self, from: &str, to: &str) -> Result<(), &'static str> {
        if self.leader.as_deref() != Some(from) {
            self.broken.push(format!("{from} was to hand over, and does not lead"));
            return Err("not the leader");
        }
        if self.not_now > 0 {
            self.not_now = self.not_now.saturating_sub(u32::from(self.not_now != u32::MAX));
            self.happened.push(Happened::NotNow);
            return Err("a checkpoint is under way");
        }
        if self.synchronous.as_deref() != Some(to) || !self.has_all(to) {
            self.broken.push(format!("{to} was to lead, and may not have all data"));
            return Err("candidate name does not match with sync_standby");
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        (self.leader, self.synchronous) = (Some(to.clone()), Some(from.clone()));
        self.happened.push(Happened::HandedOver { from, to });
        Ok(())
    }

    fn deregister(&mut self, by: &str, id: &str) -> Result<(), &'static str> {
        if by == id {
            self.broken.push(format!("{id} was to remove itself"));
        }
        if !self.decides() {
            return Err("etcdserver: no leader");
        }
        if self.registered.remove(id).is_none() {
            self.broken.push(format!("{id} was to be removed, and is not registered"));
            return Err("etcdserver: member not found");
        }
        if self.leader.as_deref() == Some(id) {
            self.broken.push(format!("{id} leads, and was removed"));
        }
        self.happened.push(Happened::Deregistered(id.to_owned()));
        if !self.decides() {
            self.broken.push(format!("when {id} was removed, too few votes were left: {self:?}"));
        }
        Ok(())
    }

    /// How many bytes one is behind.
    fn lag(&self, id: &str) -> u64 {
        self.members.get(id).map_or(0, |member| u64::from(member.copies) << 30)
    }

    /// What `id` answers: a status and JSON, or text; nothing where it does not answer.
    fn answer(
        &mut self,
        id: &str,
        port: u16,
        method: &str,
        path: &str,
        login: bool,
        body: &Value,
    ) -> Option<(u16, Value)> {
        if !self.alive(id) {
            return None;
        }
        let leads = self.leader.as_deref() == Some(id);
        let done = |done: Result<(), &str>| match done {
            Ok(()) => json!({ "done": true }),
            Err(why) => json!({ "done": false, "why": why }),
        };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Some(match (port, method, path) {
            // As that of Patroni is: only who has a database that runs is well.
            (PORT, "GET", "/health") => (if self.has_all(id) { 200 } else { 503 }, json!({})),
            (PORT, "GET", "/member" | "/cluster") if leads && self.silent => return None,
            (PORT, "GET", "/member") => {
                self.looks += 1;
                self.copy(id);
                (200, self.member(id))
            }
            (PORT, "POST", "/member") if body["do"] == "hand_over" => {
                (200, done(self.hand_over(id, &text("to"))))
            }
            (PORT, "POST", "/member") if body["do"] == "deregister" => {
                (200, done(self.deregister(id, &text("instance"))))
            }
            (PORT, "GET", "/cluster") => {
                self.looks += 1;
                for copying in self.members.keys().cloned().collect::<Vec<_>>() {
                    self.copy(&copying);
                }
                (200, self.patroni())
            }
            (PORT, "GET", "/config") => (
                200,
                json!({ "synchronous_mode": true, "synchronous_mode_strict": true, "synchronous_node_count": 1 }),
            ),
            (PORT, "POST", "/switchover") if !login => (401, json!("no auth header received")),
            (PORT, "POST", "/switchover") => {
                let from = text("leader");
                match self.hand_over(&from, &text("candidate")) {
                    Ok(()) => (200, json!("Successfully switched over")),
                    Err(why) => (412, json!(why)),
                }
            }
            (ETCD, "POST", "/v3/cluster/member/list") => (200, self.etcd()),
            (ETCD, "POST", "/v3/cluster/member/remove") => {
                let number: Option<u64> = text("ID").parse().ok();
                let found = self.registered.iter().find(|(_, known)| Some(**known) == number);
                let found = found.map(|(id, _)| id.clone()).unwrap_or_default();
                match self.deregister(id, &found) {
                    Ok(()) => (200, json!({})),
                    Err(why) => (503, json!({ "error": why, "code": 14 })),
                }
            }
            _ => {
                self.broken.push(format!("{method} {path} at port {port} is not documented: {body}"));
                (404, json!({}))
            }
        })
    }

    fn member(&self, id: &str) -> Value {
        let has_vote = self.votes(id);
        if self.leader.as_deref() == Some(id) {
            let registered: Vec<_> = self.registered.keys().collect();
            let voters: Vec<_> = self.registered.keys().filter(|id| self.votes(id)).collect();
            return json!({
                "role": "leader", "votes": has_vote, "registered": registered, "voters": voters, "data": 1 << 30,
            });
        }
        let role = match () {
            () if !self.has_all(id) => "joining",
            () if self.synchronous.as_deref() == Some(id) => "synchronous",
            () => "replica",
        };
        json!({ "role": role, "lag": self.lag(id), "votes": has_vote })
    }

    fn patroni(&self) -> Value {
        let member = |(id, member): (&String, &Member)| {
            let (role, state) = match () {
                () if self.leader.as_ref() == Some(id) => ("leader", "running"),
                () if !self.has_all(id) => ("replica", "creating replica"),
                () if self.synchronous.as_ref() == Some(id) => ("sync_standby", "streaming"),
                () => ("replica", "streaming"),
            };
            json!({ "name": id, "host": member.address, "role": role, "state": state, "lag": self.lag(id) })
        };
        json!({ "members": self.members.iter().map(member).collect::<Vec<_>>() })
    }

    fn etcd(&self) -> Value {
        let member = |(id, number): (&String, &u64)| {
            let mut member = json!({ "ID": number.to_string(), "name": id });
            // As the gateway has it: what is false is left out.
            if !self.votes(id) {
                member["isLearner"] = json!(true);
            }
            member
        };
        json!({ "members": self.registered.iter().map(member).collect::<Vec<_>>() })
    }

    /// Who leads.
    pub fn leads(&self) -> String {
        self.leader.clone().expect("somebody leads")
    }

    /// Who is there, and who is registered; both are to be the same in the end.
    pub fn known(&self) -> (Vec<String>, Vec<String>) {
        (self.members.keys().cloned().collect(), self.registered.keys().cloned().collect())
    }

    /// What happened since, and from now on.
    pub fn since(&mut self) -> Vec<Happened> {
        std::mem::take(&mut self.happened)
    }
}

/// The cluster of one stage.
#[derive(Clone, Default)]
pub struct Cluster {
    model: Arc<(Mutex<Model>, Condvar)>,
}

impl Cluster {
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets whoever waits for an answer have it.
    pub fn answer(&self) {
        self.model().unanswered = false;
        self.model.1.notify_all();
    }

    /// Plays whatever instances the stage has, until it is over.
    pub fn play(&self, stage: &Stage, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            self.turn(stage);
            sleep(LOOK);
        }
        for member in self.model().members.values() {
            member.over.store(true, Ordering::Relaxed);
        }
        self.answer();
    }

    /// Takes up what the endpoint has now.
    pub fn turn(&self, stage: &Stage) {
        let world = stage.cloud.state();
        let instances = world["instances"].as_array().expect("a list").iter();
        let running = instances.filter(|one| one["state"] == "running").map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_else(|| panic!("no {name}: {one}"));
            (text("id").to_owned(), text("private_ip").parse().expect("an address"))
        });
        let mut model = self.model();
        for (id, listeners) in model.follow(&running.collect()) {
            let over = Arc::clone(&model.members[&id].over);
            for (listener, port) in listeners.into_iter().zip([PORT, ETCD]) {
                let (cluster, id, over) = (self.clone(), id.clone(), Arc::clone(&over));
                listener.set_nonblocking(true).expect("set");
                spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        match listener.accept() {
                            Ok((stream, _)) => {
                                let (cluster, id) = (cluster.clone(), id.clone());
                                spawn(move || cluster.hear(&stream, &id, port));
                            }
                            Err(_) => sleep(std::time::Duration::from_millis(5)),
                        }
                    }
                });
            }
        }
    }

    /// Answers one request.
    fn hear(&self, stream: &TcpStream, id: &str, port: u16) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let (mut length, mut login) = (0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => login = value.trim() == LOGIN,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let mut model = self.model();
        let handed = model.happened.len();
        let Some((status, answer)) = model.answer(id, port, method, path, login, &body) else {
            return Ok(());
        };
        if model.happened[handed..].iter().any(|one| matches!(one, Happened::HandedOver { .. })) {
            let waited = self.model.1.wait_while(model, |model| model.unanswered);
            model = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(model);
        let text = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        let length = text.len();
        write!(
            &*stream,
            "HTTP/1.1 {status} Done\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
        )
    }
}
