//! One round: all subjects, one after the other, under the same loads.

use crate::arrivals::Load;
use crate::lab::{Lab, REST, Subject, Waiting};
use crate::report::Report;
use crate::{Args, Part, audit};
use anyhow::Result;

/// The loads that were asked for.
pub fn loads(args: &Args) -> Vec<Load> {
    let has = |part| args.only.contains(&part);
    let rates = args.rates.iter().filter(|_| has(Part::Rates)).map(|rate| Load::Rate(*rate, args.seconds));
    let bursts = args.bursts.iter().filter(|_| has(Part::Burst)).map(|count| Load::Burst(*count));
    rates.chain(bursts).collect()
}

/// Prepares everything, then measures one subject after the other.
pub async fn run(lab: &mut Lab, args: &Args, number: usize, loads: &[Load], report: &mut Report) -> Result<()> {
    let mut subjects = vec![Subject::Null, Subject::Countersign];
    subjects.extend(args.controller_runtime.then_some(Subject::Plain));
    let first = number % subjects.len();
    subjects.rotate_left(first);
    lab.prepares().await?;
    let mut prepared = vec![];
    for subject in subjects {
        for (at, load) in loads.iter().enumerate() {
            let namespace = format!("{}-{number}-{at}", subject.as_str().to_lowercase().replace(' ', "-"));
            prepared.push((subject, *load, lab.prepare(&namespace, load.count()).await?));
        }
    }
    lab.measures().await?;
    let mut bursts = vec![];
    for (subject, load, waiting) in prepared {
        lab.take(subject).await?;
        let rate = measure(lab, subject, load, &waiting, report).await?;
        bursts.push((subject, load.to_string(), rate));
    }
    for (subject, load, rate) in &bursts {
        let of = |wanted| bursts.iter().find(|(other, same, _)| *other == wanted && same == load);
        if let (true, Some((_, _, limit))) = (*subject != Subject::Null, of(Subject::Null)) {
            report.add(&format!("{}, {load}", subject.as_str()), "share of the null writer's rate", rate / limit);
        }
        if let (Subject::Countersign, Some((_, _, plain))) = (subject, of(Subject::Plain)) {
            report.add(&format!("Countersign, {load}"), "times controller-runtime's rate", rate / plain);
        }
    }
    Ok(())
}

async fn measure(lab: &Lab, subject: Subject, load: Load, waiting: &Waiting, report: &mut Report) -> Result<f64> {
    let count = load.count() as f64;
    tokio::time::sleep(REST).await;
    let mark = lab.cluster.audit_log().settle().await?;
    let process = lab.process()?;
    let before = process.as_ref().map(|process| process.ran()).transpose()?;
    lab.approve(waiting, load).await?;
    let after = process.as_ref().map(|process| process.ran()).transpose()?;
    // The last checkpoint of the audit trail and the last Events.
    tokio::time::sleep(REST).await;
    let mut outcome = audit::read(&lab.cluster, mark, &waiting.space.namespace).await?;
    let part = format!("{}, {load}", subject.as_str());
    let rate = count / (outcome.whole_ms / 1000.0);
    report.add(&part, "approvals per second", rate);
    report.add_times(&part, "reviewed to released", &mut outcome.released_ms);
    report.add_times(&part, "review asked to answered", &mut outcome.answered_ms);
    if let Some((before, after)) = before.zip(after) {
        report.add(&part, "CPU ms per approval", (after - before).as_secs_f64() * 1000.0 / count);
        for (figure, number) in [
            ("writes per approval", outcome.writes),
            ("failed writes per approval", outcome.failed),
            ("reads per approval", outcome.reads),
            ("audit writes per approval", outcome.records),
            ("Events per approval", outcome.events),
        ] {
            report.add(&part, figure, number as f64 / count);
        }
    }
    Ok(rate)
}
