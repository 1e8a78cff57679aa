//! The journal on real files: what it keeps, what it takes on disk, and what it does when the disk does not.

use std::fs;

use super::*;

const MIB: u64 = 1 << 20;

fn note(journal: &Journal, subject: &str, message: &str) {
    let reasons = vec![Reason::seen("a"), Reason::ruled_out("b")];
    journal.note(Level::Info, subject, "test", message.to_owned(), reasons);
}

fn entry(message: &str, at_ms: u64) -> Entry {
    Entry {
        id: 0,
        at: WallTime::from_millis(at_ms),
        level: Level::Info,
        subject: "shop/1".to_owned(),
        kind: "test".to_owned(),
        message: message.to_owned(),
        reasons: Vec::new(),
    }
}

async fn messages(journal: &Journal, query: Query) -> Vec<String> {
    journal.read(query).await.into_iter().map(|entry| entry.message).collect()
}

/// Ends a journal and waits until its thread has closed the file, which takes its end of the channel with it.
async fn closed(journal: Journal) {
    let mut newest = journal.newest();
    drop(journal);
    while newest.changed().await.is_ok() {}
}

fn newest(limit: u32) -> Query {
    Query { limit, ..Query::default() }
}

#[tokio::test]
async fn entries_survive_and_ids_grow() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("journal.db");
    let journal = Journal::open(&path, 8 * MIB).unwrap();
    note(&journal, "shop/1", "one");
    note(&journal, "shop", "two");
    note(&journal, "shopping", "three");
    let all = journal.read(newest(10)).await;
    assert_eq!(all.iter().map(|e| e.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(all[0].reasons.len(), 2);
    let shop = Query { subject: Some("shop".to_owned()), ..newest(10) };
    assert_eq!(messages(&journal, shop).await, ["one", "two"]);
    closed(journal).await;

    let journal = Journal::open(&path, 8 * MIB).unwrap();
    let mut awaited = journal.newest();
    awaited.wait_for(|id| *id == 3).await.unwrap();
    note(&journal, "node", "four");
    awaited.wait_for(|id| *id == 4).await.unwrap();
    assert_eq!(messages(&journal, newest(2)).await, ["three", "four"]);
    assert_eq!(messages(&journal, Query { after: Some(1), ..newest(1) }).await, ["two"]);
    assert_eq!((journal.dropped(), journal.problems()), (0, Vec::new()));
}

/// Everything that lies there under the journal's name.
fn on_disk(folder: &Path) -> u64 {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn it_stays_within_its_size_and_the_oldest_entries_go() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(&temp.path().join("journal.db"), 4 * MIB).unwrap();
    let text = "x".repeat(4000);
    for round in 0..40 {
        for i in 0..50 {
            note(&journal, ["shop", "shop/1", "edge"][i % 3], &format!("{} {text}", round * 50 + i));
        }
        // Reading waits for what was written.
        let kept = journal.read(newest(1)).await;
        assert_eq!(kept[0].id, (round as u64 + 1) * 50, "the newest one is there");
        let bytes = on_disk(temp.path());
        assert!(bytes <= 4 * MIB, "{bytes} bytes after {} entries", (round + 1) * 50);
    }
    let kept = journal.read(newest(10_000)).await;
    assert!(kept.len() > 100 && kept.len() < 1000, "{}", kept.len());
    assert_eq!(kept.last().unwrap().id, 2000);

    journal.set_size(MIB);
    note(&journal, "shop", "smaller");
    assert_eq!(messages(&journal, newest(1)).await, ["smaller"]);
    closed(journal).await;
    let journal = Journal::open(&temp.path().join("journal.db"), MIB).unwrap();
    assert_eq!(messages(&journal, newest(1)).await, ["smaller"]);
    let table = fs::metadata(temp.path().join("journal.db")).unwrap().len();
    assert!(table <= MIB, "{table} bytes: the file gives back what it does not need");
}

#[tokio::test]
async fn texts_without_end_are_cut() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(&temp.path().join("journal.db"), 8 * MIB).unwrap();
    let endless = "ä".repeat(1 << 20);
    let reasons = vec![Reason::seen(endless.clone()); 200];
    journal.note(Level::Info, "shop", "test", endless, reasons);
    let kept = &journal.read(newest(1)).await[0];
    assert!(kept.message.len() <= TEXT_BYTES + 3 && kept.message.ends_with('…'));
    assert_eq!(kept.reasons.len(), REASONS);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_whole_and_said() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("journal.db");
    for (round, name) in ["journal.db.damaged", "journal.db.damaged-2"].into_iter().enumerate() {
        let damage = vec![7 + u8::try_from(round).unwrap(); 8192];
        fs::write(&path, &damage).unwrap();
        let journal = Journal::open(&path, 8 * MIB).unwrap();
        note(&journal, "node", "kept");
        let kept = messages(&journal, newest(5)).await;
        assert!(kept[0].contains("was damaged") && kept[0].contains(name) && kept[1] == "kept", "{kept:?}");
        assert!(journal.problems()[0].contains(name), "{:?}", journal.problems());
        assert_eq!(fs::read(temp.path().join(name)).unwrap(), damage, "nothing of it is lost");
        closed(journal).await;
    }
}

#[tokio::test]
async fn damage_inside_the_table_is_found_at_the_start() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("journal.db");
    let journal = Journal::open(&path, 8 * MIB).unwrap();
    for i in 0..200 {
        note(&journal, "shop", &format!("{i} {}", "x".repeat(500)));
    }
    journal.read(newest(1)).await;
    closed(journal).await;
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xee);
    fs::write(&path, bytes).unwrap();
    let journal = Journal::open(&path, 8 * MIB).unwrap();
    note(&journal, "node", "kept");
    assert_eq!(messages(&journal, newest(1)).await, ["kept"]);
    assert!(temp.path().join("journal.db.damaged").exists(), "{:?}", journal.problems());
}

#[tokio::test]
async fn an_impossible_place_is_said_and_entries_wait_until_it_is_possible() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("no/such");
    let journal = Journal::open(&folder.join("journal.db"), 8 * MIB).unwrap();
    note(&journal, "node", "in memory");
    assert_eq!(messages(&journal, newest(5)).await, ["in memory"]);
    assert!(journal.problems()[0].contains("1 entry waits in memory"), "{:?}", journal.problems());
    fs::create_dir_all(&folder).unwrap();
    let mut awaited = journal.newest();
    awaited.wait_for(|id| *id == 2).await.unwrap();
    let kept = messages(&journal, newest(5)).await;
    assert!(kept[0] == "in memory" && kept[1].contains("no entry was lost"), "{kept:?}");
    assert_eq!(journal.problems(), Vec::<String>::new());
}

#[test]
fn a_full_disk_keeps_what_fits_counts_the_rest_and_writes_the_count() {
    let temp = tempfile::tempdir().unwrap();
    let condition = Condition::default();
    let mut keeper = Keeper::new(&temp.path().join("journal.db"), 8 * MIB, condition.clone());
    let all = || Query { after: Some(0), ..newest(100_000) };
    let now = WallTime::from_millis(1_000);
    keeper.take(entry("before", 1));
    keeper.flush(now);
    keeper.store().allow_pages(1);
    let text = "x".repeat(2000);
    for i in 0..3000 {
        keeper.take(entry(&format!("{i} {text}"), 2));
    }
    keeper.flush(now);
    assert!(keeper.lost() > 0 && keeper.waits(), "{} lost", keeper.lost());
    let said = condition.problems();
    assert!(said[0].contains("the disk is full") && said[0].contains("dropped"), "{said:?}");
    let readable = keeper.read(&all());
    assert_eq!(readable[0].message, "before");
    assert!(readable.last().unwrap().message.starts_with("2999"), "what waits can be read");

    keeper.store().allow_pages(1_000_000);
    let dropped = keeper.lost();
    keeper.try_again_now();
    keeper.flush(now);
    assert_eq!((keeper.waits(), condition.problems()), (false, Vec::new()));
    let kept = keeper.read(&all());
    let last = kept.last().unwrap();
    assert!(last.message.contains(&format!("{dropped} entries were lost")), "{}", last.message);
    assert_eq!(last.reasons[0].text, "the disk is full");
    assert!(kept.windows(2).all(|pair| pair[0].id < pair[1].id), "in order of ids");
    assert_eq!(kept.len() as u64, 1 + 3000 - dropped + 1);
}

#[tokio::test]
async fn what_overtakes_the_thread_is_counted() {
    let temp = tempfile::tempdir().unwrap();
    let journal = Journal::open(&temp.path().join("journal.db"), 8 * MIB).unwrap();
    journal.missed.fetch_add(7, Ordering::Relaxed);
    note(&journal, "node", "one");
    let kept = messages(&journal, newest(5)).await;
    assert!(kept[1].contains("7 entries were lost"), "{kept:?}");
    assert_eq!(journal.dropped(), 7);
}

#[test]
fn entries_stay_in_order_when_the_clock_is_set() {
    let temp = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::new(&temp.path().join("journal.db"), 8 * MIB, Condition::default());
    for (message, at_ms) in [("a", 10_000), ("b", 20_000), ("set back", 5_000), ("c", 6_000)] {
        keeper.take(entry(message, at_ms));
    }
    keeper.flush(WallTime::from_millis(6_000));
    let mut read = |query: Query| keeper.read(&query).into_iter().map(|entry| entry.message).collect::<Vec<_>>();
    assert_eq!(read(newest(10)), ["a", "b", "set back", "c"]);
    let since = |ms| Query { since: Some(WallTime::from_millis(ms)), ..newest(10) };
    assert_eq!(read(since(6_000)), ["a", "b", "c"], "in order of ids");
    assert_eq!(read(Query { until: Some(WallTime::from_millis(10_000)), ..since(5_500) }), ["a", "c"]);
}
