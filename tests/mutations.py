#!/usr/bin/env python3
"""Puts faults into the rollout engine, one after the other, and says which of them its simulation catches. `just mutations`.

Each fault is one that a person could make: a floor off by one, a drain left out, a fence that nobody minds. It is applied
to a copy of the tree below target/mutations, the simulation is built and run there, and the fault is `caught` when it
fails. A fault that is `missed` means that the simulation proves less than it says: exit code 1. So does a fault whose text
is no longer in the code, since it has to be written anew.

Nothing but target/mutations is written, and only faults whose build or text is new take long: about a minute each.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutations" / "tree"
BUILD = ROOT / "target" / "mutations" / "build"
# What the build of the tests reads.
PARTS = ("Cargo.toml", "Cargo.lock", "src", "tests", "docs", "images", "bootstrap", "fleets", "README.md", ".cargo")

PLAN = "src/fleet/plan/"

# Groups first, since that takes seconds: their rolls, and the tables of what is known of their size; then random schedules and
# those that failed once; and where they notice nothing, every order of events in small worlds.
GROUPS = (
    ("--test", "integration", "convergence::group"), ("--lib", "fleet::history::"), ("--lib", "fleet::plan::size::"),
    ("--lib", "fleet::policy::"),
)
SIMULATED = (("--test", "schedules", "simulation::what_"), ("--test", "schedules", "exhaustive::"))

# (what is wrong, in which file, what stands there, what the fault makes of it); several edits where one is not enough.
FAULTS = [
    ("the floor is one too low", [
        (PLAN + "replace.rs", "if !allowed || serving <= policy.floor() {", "if !allowed || serving < policy.floor() {"),
        (PLAN + "replace.rs", "serving.saturating_sub(policy.floor())", "(serving + 1).saturating_sub(policy.floor())"),
        (PLAN + "replace.rs", "others: policy.floor() }", "others: policy.floor().saturating_sub(1) }"),
    ]),
    ("what drains counts as serving", [
        (PLAN + "room.rs", "self.count(|kind| matches!(kind, Kind::Current | Kind::Stale(_)))",
         "self.count(|kind| matches!(kind, Kind::Current | Kind::Stale(_) | Kind::Draining))"),
        (PLAN + "replace.rs", "others: policy.floor() }", "others: 0 }"),
    ]),
    ("what cannot be told counts as serving", [
        (PLAN + "members.rs", "(Health::Unknown, _) => Kind::Unknown,", "(Health::Unknown, _) => Kind::Current,"),
        (PLAN + "replace.rs", "others: policy.floor() }", "others: 0 }"),
    ]),
    ("the ceiling is one too high", [
        (PLAN + "launch.rs", "policy.ceiling().saturating_sub(self.existing())", "(policy.ceiling() + 1).saturating_sub(self.existing())"),
    ]),
    ("what is not seen takes no room", [
        (PLAN + "room.rs", "Kind::Dead => false,", "Kind::Dead | Kind::Absent => false,"),
        (PLAN + "mod.rs", "| Self::Absent | Self::Gone)", "| Self::Gone)"),
        (PLAN + "launch.rs", "Kind::Current | Kind::Unknown | Kind::Absent | Kind::Gone", "Kind::Current | Kind::Unknown | Kind::Gone"),
    ]),
    ("the drain is left out", [
        (PLAN + "replace.rs", "self.actions.push(Action::Drain { id: id.clone(), others: policy.floor() });",
         "self.terminate(id, true, \"drained\");"),
    ]),
    ("a drain has no limit", [
        (PLAN + "room.rs", "connections == 0 || over", "connections == 0 || over && false"),
    ]),
    ("what is drained and needed again is ended all the same", [
        (PLAN + "room.rs", "} else if !enough && health == Health::Healthy {", "} else if !enough && false && health == Health::Healthy {"),
        (PLAN + "room.rs", "} else if !enough {", "} else if !enough && false {"),
    ]),
    ("what may serve by now is ended for being outdated", [
        (PLAN + "members.rs", "_ if !served && may_begin => Kind::Starting,", ""),
    ]),
    ("one that was given up and is needed again is ended at once", [
        (PLAN + "members.rs", "let may_serve = may_begin || seen.in_service", "let may_serve = seen.in_service"),
    ]),
    ("what was drained and is told to serve again is done with draining", [
        (PLAN + "members.rs", "member.is_some_and(drained)) && !may_begin {", "member.is_some_and(drained)) {"),
    ]),
    ("what may serve by now is ended as one too many", [
        (PLAN + "replace.rs", "starting.into_iter().rev().filter(|(_, known)| !may_begin(known.member, now));",
         "starting.into_iter().rev().filter(|_| now == self.situation.now);"),
    ]),
    ("one that is given requests again is replaced all the same", [
        (PLAN + "launch.rs", "self.living() + readmitted.len()", "self.living()"),
    ]),
    ("the journal is written after the act", [
        ("src/fleet/roll.rs", "if !self.journal.propose(now, Event::Intent { action: action.clone() }).await? {\n            return Ok(false);\n        }\n        let result = match self.before(action, running).await {\n            Ok(()) => self.provider.apply(action).await,\n            Err(error) => Err(ProviderError::Failed(error)),\n        };",
         "let result = match self.before(action, running).await {\n            Ok(()) => self.provider.apply(action).await,\n            Err(error) => Err(ProviderError::Failed(error)),\n        };\n        if !self.journal.propose(now, Event::Intent { action: action.clone() }).await? {\n            return Ok(false);\n        }"),
    ]),
    ("the fence is ignored", [
        ("src/chain.rs", "PutOptions::from(PutMode::Create)", "PutOptions::from(PutMode::Overwrite)"),
    ]),
    ("whoever loses the journal goes on", [
        ("src/chain.rs", "if !entry.event.is_command() {", "if !entry.event.is_command() && false {"),
    ]),
    ("a command of a second terminal is not taken up", [
        ("src/fleet/history.rs", "Event::Paused { reason } => self.paused = Some(reason.clone()),", "Event::Paused { .. } => {}"),
    ]),
    ("a name is used again", [
        ("src/fleet/history.rs", "self.launches = self.launches.max(id.number());", ""),
    ]),
    ("a launch whose answer was lost begins again under another name", [
        (PLAN + "launch.rs", "        own.truncate(fresh);", "        own.clear();"),
    ]),
    ("what is begun has no priority over what could be", [
        (PLAN + "launch.rs", "        let missing = missing - fills.len();\n", ""),
        (PLAN + "launch.rs", "let room = policy.ceiling().saturating_sub(self.existing());", "let room = policy.ceiling().saturating_sub(self.existing()) + fills.len();"),
    ]),
    ("an admission whose answer was lost is forgotten", [
        ("src/fleet/history.rs", "                member.given = Some(at);\n", ""),
    ]),
    ("a drain tried again counts from when the clock said so last", [
        ("src/fleet/history.rs", "member.counted.map_or(at, |before| before.max(at))", "at"),
    ]),
    ("an image in quarantine is launched", [
        (PLAN + "launch.rs", "if let Some(reason) = self.situation.outlook.refusal(target.image) {", "if let Some(reason) = self.situation.outlook.refusal(target.image).filter(|_| false) {"),
    ]),
    ("a failed image is not put into quarantine", [
        ("src/fleet/roll.rs", "self.condemn(&reason, census.at).await?;\n                let text", "let text"),
        ("src/fleet/roll/end.rs", "self.condemn(reason, census.at).await?;", ""),
    ]),
    ("the failure budget is ignored", [
        (PLAN + "waves.rs", "if failed > policy.failures {", "if failed > policy.failures + 1000 {"),
    ]),
    ("failures of an earlier rollout count", [
        ("src/fleet/history.rs", "        if over || self.generation() != Some(target.generation.id) {\n            self.failures.clear();", "        if over || self.generation() != Some(target.generation.id) {"),
    ]),
    ("a rollout that failed is not rolled back", [
        (PLAN + "waves.rs", "let sensible = policy.on_failure == OnFailure::Rollback", "let sensible = false && policy.on_failure == OnFailure::Rollback"),
    ]),
    ("a rollback leaves what was replaced already", [
        (PLAN + "members.rs", "Some(generation) if generation.id == target.generation.id => {}", "Some(_) if situation.history.retreat.is_some() => {}\n        Some(generation) if generation.id == target.generation.id => {}"),
    ]),
    ("a wave is one too large", [
        (PLAN + "waves.rs", "Stage { number, limit: *limit })", "Stage { number, limit: (*limit + 1).min(policy.size) })"),
    ]),
    ("soak begins with the first look", [
        (PLAN + "waves.rs", "None if current >= limit => vec![", "None if current >= 1 => vec!["),
        (PLAN + "waves.rs", "Some(_) if current < limit => vec![", "Some(_) if current < 1 => vec!["),
    ]),
    ("soak goes on while fewer serve", [
        ("src/fleet/history.rs", "Event::WaveLost { .. } => (self.wave.reached, self.wave.judged) = (None, BTreeMap::new()),", "Event::WaveLost { .. } => {}"),
    ]),
    ("soak is left out", [
        (PLAN + "waves.rs", "now.duration_since(since) >= policy.soak && self.all_gates_pass()", "now >= since && self.all_gates_pass()"),
        (PLAN + "waves.rs", "Some(self.situation.history.wave.reached? + self.situation.policy.soak)", "Some(self.situation.history.wave.reached?)"),
    ]),
    ("a wave passes without its gates", [
        (PLAN + "waves.rs", ">= policy.soak && self.all_gates_pass() =>", ">= policy.soak =>"),
    ]),
    ("a gate that cannot tell says yes", [
        (PLAN + "waves.rs", "matches!(self.reading(gate), Some((_, Reading::Pass)))", "matches!(self.reading(gate), Some((_, Reading::Pass | Reading::NotYet(_))))"),
    ]),
    ("another target goes on with the waves of the one before", [
        ("src/fleet/history.rs", "            self.failures.clear();\n            self.wave = Wave::default();\n        }\n        self.target = Some(target.clone());", "            self.failures.clear();\n        }\n        self.target = Some(target.clone());"),
    ]),
    ("an image counts as proven when it is opened", [
        ("src/fleet/history.rs", "        (self.halted, self.cancelled, self.retreat, self.completed) = (None, None, None, false);", "        (self.halted, self.cancelled, self.retreat, self.completed) = (None, None, None, false);\n        self.proven = Some(target.clone());"),
    ]),
    ("a pause lets replacements begin", [
        (PLAN + "pace.rs", "if let Some(reason) = &history.paused {", "if let Some(reason) = history.paused.as_ref().filter(|_| false) {"),
    ]),
    ("a pause lets drains begin", [
        (PLAN + "replace.rs", "let allowed = history.paused.is_none() && covered > 0", "let allowed = covered > 0"),
    ]),
    ("an open breaker is ignored", [
        (PLAN + "pace.rs", "if let Some(reason) = &outlook.breaker {", "if let Some(reason) = outlook.breaker.as_ref().filter(|_| false) {"),
    ]),
    ("a closed window is ignored", [
        (PLAN + "pace.rs", "if !policy.windows.is_open(now) {", "if !policy.windows.is_open(now) && false {"),
    ]),
    ("the rate is one too high", [
        (PLAN + "pace.rs", "let left = rate.saturating_sub(recent.count());", "let left = (rate + 1).saturating_sub(recent.count());"),
    ]),
    ("an emergency never ends", [
        ("src/fleet/history.rs", "self.emergency = *emergency;", "self.emergency |= *emergency;"),
    ]),
    ("zones are replaced all at once", [
        (PLAN + "replace.rs", "        if !policy.one_zone {\n            return None;\n        }", "        if policy.size > 0 {\n            return None;\n        }"),
    ]),
    ("one that is told to serve again drains in no zone", [
        (PLAN + "replace.rs", "_ if known.seen.is_some_and(|seen| seen.state == State::Draining) => Some(0),", "_ if false && known.seen.is_some() => Some(0),"),
        (PLAN + "room.rs", "Kind::Stale(_) | Kind::Starting);", "Kind::Stale(_));"),
    ]),
    ("a zone without room is never asked again", [
        (PLAN + "launch.rs", "shortage.at + (SHORT * doubled).min(LONG)", "shortage.at + (SHORT * doubled).min(LONG) * 100_000"),
    ]),
    ("one that never serves is waited for forever", [
        (PLAN + "members.rs", "if now.duration_since(seen.launched_at) >= policy.deadline =>", "if false && now.duration_since(seen.launched_at) >= policy.deadline =>"),
    ]),
    ("what someone logged in to stays", [
        (PLAN + "members.rs", "    found.extend(seen.touched.iter()", "    found.extend(seen.touched.iter().take(0)"),
    ]),
    ("what someone wants replaced stays", [
        ("src/fleet/history.rs", "self.rotate.extend(instances.iter()", "self.rotate.extend(instances.iter().take(0)"),
    ]),
    ("what is too old stays", [
        (PLAN + "members.rs", "now.duration_since(seen.launched_at) >= *most)", "now.duration_since(seen.launched_at) >= *most * 1000)"),
    ]),
    ("a cancelled rollout goes on", [
        ("src/fleet/history.rs", "Event::Cancelled { back: false, reason } => self.cancelled = Some(reason.clone()),", "Event::Cancelled { back: false, .. } => {}"),
    ]),
    ("what is too many stays", [
        (PLAN + "replace.rs", "let many = current.saturating_sub(self.situation.policy.size);", "let many = current.saturating_sub(self.situation.policy.size + 1);"),
    ]),
    ("group: what rekiln added is its owner's word", [
        ("src/fleet/policy.rs", "i64::from(group.desired) - history.added", "i64::from(group.desired) - history.added.min(0)"),
    ]),
    ("group: another size counts at once", [
        (PLAN + "size.rs", "now.duration_since(since) >= SETTLED;", "now >= since;"),
    ]),
    ("group: another size counts while acts are in doubt", [
        (PLAN + "size.rs", "doubts.are_settled() && now", "now"),
    ]),
    ("group: while another size is seen it goes on by the one before", [
        (PLAN + "size.rs", "}) = other(self.situation, &doubts) {", "}) = other(self.situation, &doubts).filter(|other| other.since > Some(now)) {"),
    ]),
    ("group: in place of an end that may not have happened one is launched", [
        (PLAN + "size.rs", "if doubts.ends.is_empty() || seen >=", "if seen < i64::MAX || seen >="),
    ]),
    ("group: an end counts as often as it is heard of", [
        ("src/fleet/history.rs", "let news = self.taken.insert(id.clone());", "let news = self.taken.insert(id.clone()) || self.size.is_some();"),
    ]),
    ("group: an end that nobody heard of is in doubt for ever", [
        (PLAN + "size.rs", "Some(at) if lives_on(at) => doubts.spared = Some(id),", "Some(at) if lives_on(at) && at > now => doubts.spared = Some(id),"),
    ]),
    ("group: an end that nobody heard of is in no doubt", [
        (PLAN + "size.rs", "drop(doubts.ends.insert(id)),", "{}"),
    ]),
    ("group: a launch that nobody heard of is in no doubt", [
        (PLAN + "size.rs", "} else if member.may_enlarge() {", "} else if member.may_enlarge() && false {"),
    ]),
    ("group: what is seen dead was never launched", [
        ("src/fleet/history.rs", "        for seen in changed {", "        for seen in changed.iter().filter(|seen| seen.state != State::Dead) {"),
    ]),
    ("group: what ended by itself was never launched", [
        ("src/fleet/history.rs", "Outcome::Ended => i64::from(member.may_enlarge()),", "Outcome::Ended => 0,"),
    ]),
    ("group: a launch that nobody heard of and its end take one away", [
        ("src/fleet/history.rs", "-i64::from(news && !member.may_enlarge())", "-i64::from(news)"),
    ]),
    ("group: what its owner took away stays rekiln's", [
        ("src/fleet/history.rs", "self.added -= i64::from(*lost);", "self.added -= i64::from(*lost) * 0;"),
    ]),
    ("group: what it is about to launch is dealt with as if it were there", [
        (PLAN + "members.rs", "if seen.id.is_coming() {", "if seen.id.is_coming() && false {"),
    ]),
    ("group: a small one is never replaced", [
        ("src/fleet/policy.rs", "surge: if stuck { 1 } else { policy.surge }", "surge: policy.surge"),
    ]),
    ("group: a wave of none has soaked", [
        (PLAN + "waves.rs", "let limit = limit.max(1);", ""),
    ]),
]


def refresh():
    """Makes the copy what the tree is. Files that are the same keep their times, so that nothing is built for nothing."""
    for part in PARTS:
        source, copy = ROOT / part, COPY / part
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        for path in files:
            put(COPY / path.relative_to(ROOT), path.read_bytes(), path.stat().st_mode)
        if copy.is_dir():
            for path in copy.rglob("*"):
                if path.is_file() and not (ROOT / path.relative_to(COPY)).exists():
                    path.unlink()


def put(path, content, mode=None):
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if mode is not None:
        path.chmod(mode)


def edited(edits):
    """Returns the files that a fault changes, with what is in them then."""
    files = {}
    for name, old, new in edits:
        text = files.get(name) or (ROOT / name).read_text()
        if text.count(old) != 1:
            raise LookupError(f"{name} has {text.count(old)} times: {old}")
        files[name] = text.replace(old, new)
    return files


def cargo(*words, **environment):
    """Runs the simulation's tests in the copy. Debug information and warnings are of no use there, and slow."""
    settings = {
        "CARGO_TARGET_DIR": str(BUILD),
        "CARGO_PROFILE_DEV_DEBUG": "0",
        "CARGO_PROFILE_DEV_OPT_LEVEL": "1",
        "RUSTFLAGS": "--cap-lints=allow",
        "REKILN_SHRINK": "0",
        **environment,
    }
    command = ["cargo", "test", "--quiet", "--no-default-features", *words]
    return subprocess.run(
        command, cwd=COPY, env={**os.environ, **settings}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
    )


def law(output):
    """Returns the first line that says what was noticed."""
    lines = output.splitlines()
    said = [line.strip() for line in lines if line.startswith("seed ") or "never reached" in line]
    after = [lines[at + 1].strip() for at, line in enumerate(lines[:-1]) if " panicked at " in line]
    return (said[:1] or after[:1] or [""])[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="only faults whose description contains one of these")
    parser.add_argument("--schedules", type=int, default=4000, help="how many schedules a fault has to get through")
    parser.add_argument("--list", action="store_true", help="name the faults and end")
    arguments = parser.parse_args()
    chosen = [
        (name, edits) for name, edits in FAULTS
        if not arguments.which or any(part in name for part in arguments.which)
    ]
    if arguments.list:
        print("\n".join(name for name, _ in chosen))
        return 0
    # A fault whose text is gone is noticed before an hour has passed.
    changed = [(name, edited(edits)) for name, edits in chosen]
    refresh()
    schedules = {"REKILN_SCHEDULES": str(arguments.schedules)}
    for test in GROUPS + SIMULATED:
        sound = cargo(*test, **schedules)
        if sound.returncode != 0:
            sys.exit(f"without any fault the tests fail:\n{sound.stdout}")
    missed = []
    for name, files in changed:
        start = time.monotonic()
        try:
            for path, text in files.items():
                put(COPY / path, text.encode())
            tests = GROUPS + SIMULATED if name.startswith("group:") else SIMULATED
            built = cargo("--lib", "--test", "integration", "--no-run", **schedules)
            if built.returncode != 0:
                sys.exit(f"{name}: the fault does not compile:\n{built.stdout}")
            for test in tests:
                result = cargo(*test, **schedules)
                caught = result.returncode != 0
                if caught:
                    break
        finally:
            refresh()
        missed += [] if caught else [name]
        seconds = time.monotonic() - start
        print(f"{'caught' if caught else 'MISSED'}  {name}  ({seconds:.0f} s{': ' + law(result.stdout)[:110] if caught else ''})", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} faults were caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
