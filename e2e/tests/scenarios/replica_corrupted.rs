//! A sidecar finds its database overwritten, cut off, or no database at all. It sets it aside for whoever wants to know why, says so, and
//! is filled again; its streamer captures all the time.

use std::fs::{self, OpenOptions};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use weir_e2e::site::{Kind, PERIODS, Plan, Site};
use weir_feed::periods::Periods;

/// Does it to the database at a path.
type Damage = fn(&Path) -> Result<()>;

/// Everything into the database's own file, so that there is something to damage.
fn collect(replica: &Path) -> Result<()> {
    let database = rusqlite::Connection::open(replica)?;
    database.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))?;
    Ok(())
}

/// Another byte than any that SQLite has at the place.
fn overwrite(replica: &Path, from: usize) -> Result<()> {
    let mut bytes = fs::read(replica)?;
    ensure!(bytes.len() > from, "the database has {} bytes", bytes.len());
    bytes.iter_mut().skip(from).take(8_192).for_each(|byte| *byte = 0xa5);
    Ok(fs::write(replica, bytes)?)
}

fn cut(replica: &Path) -> Result<()> {
    let file = OpenOptions::new().write(true).open(replica)?;
    let length = file.metadata()?.len();
    ensure!(length > 8_192, "the database has {length} bytes");
    Ok(file.set_len(length / 2 + 100)?)
}

#[tokio::test]
async fn replica_corrupted() -> Result<()> {
    // Whoever supervises the streamer has patience for as long as it takes to fill the database, on a machine that is busy with other sites.
    let periods = Periods { kill: PERIODS.kill * 4, ..PERIODS };
    let plan = Plan { supervised: true, periods, ..Plan::default() };
    let mut site = Site::start("replica_corrupted", plan).await?;
    let names = site.apply_of_both_policies(15).await?;
    let captured = site.await_captured_once(&names).await?;
    let held = site.read_by("s1");
    let replica = site.streamer("s1")?.replica.clone();

    let ways: [(&str, Damage); 4] = [
        ("its beginning is overwritten", |path| overwrite(path, 0)),
        ("its middle is overwritten", |path| overwrite(path, 4_096)),
        ("it is cut off", cut),
        ("it is something else", |path| Ok(fs::write(path, "this is no database\n".repeat(1_000))?)),
    ];
    for (number, (what, damage)) in (1..).zip(ways) {
        site.streamer("s1")?.sidecar.kill9().await?;
        collect(&replica)?;
        damage(&replica)?;
        let damaged = fs::read(&replica)?;
        site.streamer_mut("s1")?.sidecar.start()?;
        let s1 = site.streamer("s1")?;
        s1.await_answer(&held).await.context(what)?;
        let aside = replica.with_file_name(format!("replica.sqlite3.corrupt-{number}"));
        let kept = fs::read(&aside).with_context(|| format!("{what}: {} is not there", aside.display()))?;
        ensure!(kept == damaged, "{what}: what was set aside is not what was found");
        let log = s1.sidecar.log();
        let said = log.lines().filter(|line| line.contains("the replica is corrupt: it is set aside")).count();
        ensure!(said == number, "{what}: the log says so {said} times, not {number}:\n{log}");
    }
    site.await_condition(Kind::Streamer, "s1", "Synced", "True", "Synced").await?;
    site.ensure_undisturbed(&names, captured)?;
    site.finish().await
}
