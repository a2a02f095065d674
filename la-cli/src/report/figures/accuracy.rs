//! What was compared, and how well it tells classes apart.

use super::super::args::Data;
use super::super::page::{Page, Words};
use super::super::subject::{class_name, embeddings, Subject};
use crate::output::{one_line, thousands};
use serde_json::json;

/// The table of what is compared.
pub fn runs(page: &mut Page, subjects: &[Subject], data: &Data) -> anyhow::Result<()> {
    let first = &subjects[0];
    let classes = first.bank.images.class_names().len();
    page.section(
        "What is compared",
        &format!(
            "{}: {} training images, {}, {}.",
            one_line(&data.name),
            thousands(first.bank.images.len()),
            if first.is_leaving_one_out { "no test images".into() } else { format!("{} test images", thousands(first.asked.images.len())) },
            if classes == 0 { "no labels".into() } else { format!("{} classes", thousands(classes)) }
        ),
    );
    let rows: Vec<Vec<String>> = subjects
        .iter()
        .map(|subject| {
            let seed = subject.encoder.run.as_ref().map_or("–".into(), |run| run.train.seed.to_string());
            let epochs = subject.epochs.last().map_or("–".into(), |epoch| epoch.epoch.to_string());
            vec![one_line(&subject.about), epochs, seed]
        })
        .collect();
    let head = ["network", "epochs", "seed"].map(str::to_string);
    let words = Words { name: "runs", caption: "The networks.", protocol: "as their config.json and metrics.jsonl record it" };
    page.table(&words, &head, &rows);
    Ok(())
}

/// kNN accuracy of all, then by class.
pub fn add(page: &mut Page, subjects: &[Subject]) -> anyhow::Result<()> {
    let title = "Accuracy";
    if subjects.iter().all(|subject| subject.knn_top1().is_none()) {
        page.left_out(title, "it needs a class for every training image, and these have none: put each class into a sub-folder of its own. So do clusters compared with classes and the planes of classes below.");
        return Ok(());
    }
    page.section(title, "How often the nearest training images vote for the class of an image.");
    let percent = |value: Option<f64>| value.map_or("–".into(), |value| format!("{:.1} %", 100.0 * value));
    let mut rows: Vec<Vec<String>> = subjects.iter().map(|subject| vec![one_line(&subject.name), percent(subject.knn_top1())]).collect();
    if let Some(baseline) = subjects[0].baseline {
        let level = |name: &str, top1: Option<f32>| top1.map(|top1| vec![name.to_string(), percent(Some(f64::from(top1)))]);
        rows.extend(level(&format!("{} before training", subjects[0].name), baseline.random_init));
        rows.extend(level("raw pixels", baseline.raw_pixels));
        rows.extend(level("whitened pixels", baseline.whitened_pixels));
    }
    let protocol = format!("{}; {}", subjects[0].protocol(), embeddings(subjects));
    page.table(
        &Words { name: "accuracy", caption: "kNN top-1 accuracy.", protocol: &protocol },
        &["network", "kNN top-1"].map(str::to_string),
        &rows,
    );
    let figures: Vec<_> = subjects.iter().map(|subject| json!({"name": subject.name, "knn_top1": subject.knn_top1()})).collect();
    page.note("knn", json!({"protocol": protocol, "runs": figures}));
    by_class(page, subjects, &protocol);
    Ok(())
}

fn by_class(page: &mut Page, subjects: &[Subject], protocol: &str) {
    let classes = subjects[0].bank.images.class_names().len();
    let counts: Vec<_> = subjects.iter().map(|subject| subject.per_class().unwrap_or_default()).collect();
    let cell = |count: Option<&(usize, usize)>| match count {
        Some(&(right, all)) if all > 0 => format!("{:.1} %", 100.0 * right as f64 / all as f64),
        _ => "–".into(),
    };
    let line = |class: usize| {
        let num_images = counts[0].get(class).map_or(0, |count| count.1);
        let first = [class_name(&subjects[0].bank.images, class), thousands(num_images)];
        first.into_iter().chain(counts.iter().map(|of| cell(of.get(class)))).collect::<Vec<_>>()
    };
    let rows: Vec<Vec<String>> = (0..classes).map(line).collect();
    let head: Vec<String> =
        ["class".into(), "images".into()].into_iter().chain(subjects.iter().map(|subject| one_line(&subject.name))).collect();
    page.table(&Words { name: "per-class", caption: "kNN top-1 accuracy of the images of each class.", protocol }, &head, &rows);
}
