use super::*;

const NOW: Timestamp = Timestamp::constant(1_000_000, 0);

fn image() -> ImageId {
    Digest::of(b"image")
}

fn wanted() -> Wanted {
    Wanted {
        image: image(),
        disk: Digest::of(b"disk"),
        grantees: BTreeSet::new(),
        tags: BTreeMap::new(),
        deprecate_after: None,
        uefi_data: None,
        protect: false,
        parameter: false,
    }
}

fn entry(words: &str) -> Entry {
    let mut entry = Entry::new((image(), "web", Digest::of(b"disk")), ("1", "r"), "a test", NOW);
    for word in words.split_whitespace() {
        match word {
            "started" => (entry.started, entry.snapshot) = (Some(NOW), Some("snap-1".to_owned())),
            "long-ago" => entry.started = Some(NOW - GRACE),
            "sealed" => entry.sealed = true,
            "published" => (entry.ami, entry.published) = (Some("ami-1".to_owned()), Some(NOW)),
            other => panic!("`{other}` is no word"),
        }
    }
    entry
}

fn state(word: &str) -> State {
    match word {
        "ready" => State::Ready,
        "pending" => State::Pending,
        "failed" => State::Failed("no".to_owned()),
        "disabled" => State::Disabled,
        "gone" => State::Gone,
        other => panic!("`{other}` is no state"),
    }
}

/// What is seen: `snapshot:STATE`, `image:STATE`, `foreign` (somebody else's AMI), `once` (seen ready once only).
fn seen(words: &str) -> Seen {
    let mut seen = Seen { in_a_row: IN_A_ROW, ..Seen::default() };
    let tags = |image: &str| {
        BTreeMap::from([
            (IMAGE_TAG.to_owned(), Digest::of(image.as_bytes()).to_string()),
            (DISK_TAG.to_owned(), Digest::of(b"disk").to_string()),
        ])
    };
    for word in words.split_whitespace() {
        match word.split_once(':') {
            Some(("snapshot", word)) => {
                let (id, state) = ("snap-1".to_owned(), state(word));
                seen.snapshot = Some(SeenSnapshot { id, state, gib: 1, kms_key: None, tags: tags("image") });
            }
            Some(("image", word)) => {
                seen.image = Some(SeenImage {
                    name: "rekiln/web/0".to_owned(),
                    id: "ami-1".to_owned(),
                    state: state(word),
                    created: Some(NOW + SignedDuration::from_secs(7)),
                    snapshot: Some("snap-1".to_owned()),
                    tags: tags("image"),
                    deprecation: None,
                    protected: false,
                });
            }
            None if word == "foreign" => {
                if let Some(image) = &mut seen.image {
                    image.tags = tags("another");
                }
            }
            None if word == "once" => seen.in_a_row = 1,
            _ => panic!("`{word}` is no word"),
        }
    }
    seen
}

fn said(entry: &Entry, seen: &Seen) -> String {
    match next(entry, &wanted(), seen, NOW) {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(Step::Start) => "start".to_owned(),
        Ok(Step::Upload(id)) => format!("upload {id}"),
        Ok(Step::Wait(what)) => format!("wait for {what}"),
        Ok(Step::Register(id)) => format!("register {id}"),
        Ok(Step::BeginAgain { ami, snapshot, .. }) => {
            let gone: Vec<_> = ami.into_iter().chain(snapshot).collect();
            format!("again without {}", gone.join(" "))
        }
        Ok(Step::Done { .. }) => "done".to_owned(),
        Ok(other) => format!("{other:?}"),
    }
}

#[test]
fn from_nothing_to_done() {
    let table = [
        ("", "", "start"),
        ("started", "", "upload snap-1"),
        ("started", "snapshot:pending", "upload snap-1"),
        // It may be listed late, but not for ever.
        ("started long-ago", "", "again without "),
        ("started long-ago", "snapshot:pending", "upload snap-1"),
        ("started sealed", "", "wait for snap-1 to be completed"),
        ("started sealed", "snapshot:pending", "wait for snap-1 to be completed"),
        ("started sealed", "snapshot:ready once", "wait for snap-1 to be completed everywhere"),
        ("started sealed", "snapshot:ready", "register snap-1"),
        // The answer to its completion was lost.
        ("started", "snapshot:ready", "register snap-1"),
        ("started", "snapshot:failed", "again without snap-1"),
        ("started", "snapshot:gone", "again without "),
        ("started", "snapshot:disabled", "again without snap-1"),
        ("started sealed", "snapshot:ready image:pending", "wait for ami-1 to be available"),
        ("started sealed", "snapshot:ready image:ready once", "wait for ami-1 to be available everywhere"),
        ("started sealed", "snapshot:ready image:ready", "done"),
        ("started sealed", "snapshot:ready image:failed", "again without ami-1 snap-1"),
        ("started sealed", "snapshot:ready image:gone", "register snap-1"),
        ("started sealed published", "image:ready once", "done"),
        ("started sealed published", "image:gone snapshot:gone", "again without "),
        // Another store published it.
        ("", "image:ready", "done"),
        ("", "image:failed", "again without ami-1"),
        ("", "image:ready foreign", "refused: ami-1 has the name of this image, and is not of its disk"),
        ("", "image:gone foreign", "start"),
        ("", "image:disabled", "refused: ami-1 is of this image, and someone disabled it"),
    ];
    let said = |(e, s, wanted)| (e, s, said(&entry(e), &seen(s)), wanted);
    let wrong: Vec<_> = table.into_iter().map(said).filter(|(_, _, found, wanted)| found != wanted).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn attributes_are_brought_to_what_git_says_one_after_the_other() {
    let account = |number: &str| Grantee::Account(number.to_owned());
    let unit = Grantee::of_arn("arn:aws:organizations::1:ou/o-1/ou-2");
    let wanted = Wanted {
        grantees: BTreeSet::from([account("1"), unit.clone()]),
        tags: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        deprecate_after: Some(SignedDuration::from_hours(24)),
        protect: true,
        parameter: true,
        ..wanted()
    };
    let entry = entry("started sealed published");
    let mut seen = seen("image:ready");
    seen.grantees = BTreeSet::from([account("2")]);
    let mut steps = Vec::new();
    loop {
        let step = next(&entry, &wanted, &seen, NOW).expect("a step");
        steps.push(step.clone());
        let image = seen.image.as_mut().expect("an image");
        match step {
            Step::Share { add, remove, .. } => {
                seen.grantees.extend(add);
                seen.grantees.retain(|grantee| !remove.contains(grantee));
            }
            Step::Tag { tags, .. } => image.tags.extend(tags),
            Step::Deprecate(_, at) => image.deprecation = at,
            Step::Protect(_, on) => image.protected = on,
            Step::Name(ami) => seen.parameter = Some(ami),
            _ => break,
        }
    }
    let ami = || "ami-1".to_owned();
    let at = Timestamp::constant(1_000_000 / 60 * 60 + 86_400, 0);
    let expected = [
        Step::Share {
            ami: ami(),
            add: BTreeSet::from([account("1"), unit]),
            remove: BTreeSet::from([account("2")]),
        },
        Step::Tag { resources: vec![ami(), "snap-1".to_owned()], tags: wanted.tags.clone() },
        Step::Deprecate(ami(), Some(at)),
        Step::Protect(ami(), true),
        Step::Name(ami()),
        Step::Done { ami: ami(), snapshot: Some("snap-1".to_owned()) },
    ];
    assert_eq!(steps, expected);
    // And what Git asks for no longer is taken back.
    let nothing =
        Wanted { grantees: BTreeSet::new(), tags: BTreeMap::new(), deprecate_after: None, ..wanted };
    seen.grantees.clear();
    assert_eq!(next(&entry, &nothing, &seen, NOW), Ok(Step::Deprecate(ami(), None)));
}

#[test]
fn names_are_what_ec2_takes() {
    let name = ami_name("web", image());
    assert!((3..=128).contains(&name.len()) && name.starts_with("rekiln/web/"), "{name}");
    assert_eq!(name.len(), "rekiln/web/".len() + 16);
}
