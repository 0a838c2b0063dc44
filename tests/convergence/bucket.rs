//! What a journal counts on that is in a bucket, which computers share that cannot look at each other.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use rekiln::fleet::census::InstanceId;
use rekiln::fleet::history::Event;
use rekiln::fleet::journal::{Journal, Writer};
use rekiln::objects::{Bucket, Objects};

/// More entries than are read at once.
const ENTRIES: usize = 70;

fn bucket(objects: &Arc<InMemory>) -> Objects {
    let objects = Arc::clone(objects) as Arc<dyn ObjectStore>;
    Objects::Bucket(Bucket { objects, prefix: Path::from("prod"), url: "s3://bucket/prod".to_owned() })
}

async fn open(journals: &Objects, writer: Writer) -> Journal {
    Journal::open(journals, "web", writer).await.expect("a sound journal")
}

#[tokio::test]
async fn who_soaks_on_another_computer_is_heard_of() {
    let journals = bucket(&Arc::default());
    let now = Timestamp::now();
    let there = Writer { host: "elsewhere".to_owned(), ..Writer::this("rekiln roll web") };
    let mut roller = open(&journals, there.clone()).await;
    roller.record(now - SignedDuration::from_mins(10), Event::Resumed).await.expect("written");
    let rolling = Event::Serving { instance: InstanceId("web-1".to_owned()) };
    roller.record(now - SignedDuration::from_mins(10), rolling).await.expect("written");
    let looks = open(&journals, Writer::this("a look")).await;
    assert!(looks.roller(now).is_none(), "nobody has heard of it for ten minutes");
    roller.refresh().await.expect("no rival");
    let looks = open(&journals, Writer::this("a look")).await;
    let refused = looks.refuse_rival(now).expect_err("it lives");
    assert_eq!(refused.exit_code(), 4);
    assert!(refused.hints().concat().contains("counts as gone as of"), "{refused:?}");
    assert!(looks.roller(now + SignedDuration::from_mins(5)).is_none(), "it is not heard of for ever");
    // What another process says of itself is no sign of life of this one's.
    let mut third = open(&journals, Writer { pid: 1, ..there }).await;
    third.refresh().await.expect("a look");
    let looks = open(&journals, Writer::this("a look")).await;
    assert!(looks.roller(now).is_none());
}

#[tokio::test]
async fn a_long_journal_is_read_in_order_and_a_gap_is_named() {
    let objects = Arc::<InMemory>::default();
    let journals = bucket(&objects);
    let mut one = open(&journals, Writer::this("one")).await;
    for _ in 0..ENTRIES {
        one.record(Timestamp::UNIX_EPOCH, Event::Resumed).await.expect("written");
    }
    let mut two = open(&journals, Writer::this("two")).await;
    assert_eq!(two.entries().len(), ENTRIES);
    two.record(Timestamp::UNIX_EPOCH, Event::Completed).await.expect("the next one");
    let lost = one.record(Timestamp::UNIX_EPOCH, Event::Completed).await.expect_err("another was first");
    assert_eq!(lost.exit_code(), 4);
    objects.delete(&Path::from(format!("prod/journal/web/{:020}.json", 40))).await.expect("removed");
    let broken = Journal::open(&journals, "web", Writer::this("three")).await.err().expect("it is noticed");
    assert!(broken.chain().contains("broken at entry 40"), "{broken:?}");
}
