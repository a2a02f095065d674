//! How far clusters that are found without labels are the classes.

use super::super::page::{Page, Words};
use super::super::subject::{embeddings, Subject};
use crate::output::one_line;
use la_core::data::labels;
use la_core::eval::agreement::{adjusted_rand_index, normalized_mutual_information, purity};
use la_core::kmeans::{kmeans, KmeansConfig};
use serde_json::json;

/// Clusterings from different starts, the one of least inertia of which is compared.
const STARTS: u64 = 4;

/// Agreement of k-means with the classes, of all runs.
pub fn add(page: &mut Page, subjects: &[Subject]) -> anyhow::Result<()> {
    let title = "Clusters and classes";
    let Some(classes) = labels(subjects[0].bank.images.as_ref()) else {
        page.left_out(title, "it needs a class for every training image.");
        return Ok(());
    };
    let num_clusters = subjects[0].bank.images.class_names().len();
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for subject in subjects {
        let Some(clusters) = clusters(subject, num_clusters)? else { continue };
        let found =
            [normalized_mutual_information(&clusters, &classes)?, adjusted_rand_index(&clusters, &classes)?, purity(&clusters, &classes)?];
        rows.push([one_line(&subject.name)].into_iter().chain(found.map(|value| format!("{value:.3}"))).collect());
        figures.push(json!({"name": subject.name, "nmi": found[0], "ari": found[1], "purity": found[2]}));
    }
    page.section(title, "Clusters of the training images' embeddings, found without labels, compared with the classes.");
    let protocol = format!(
        "k-means of the embeddings of {} training images into {num_clusters} clusters, as many as classes, the best of {STARTS} starts; \
         normalised by the mean of the entropies, adjusted for chance; {}",
        classes.len(),
        embeddings(subjects)
    );
    let head = ["network", "NMI", "ARI", "purity"].map(str::to_string);
    let caption = "Normalised mutual information, adjusted Rand index and purity; 1 is perfect. Measured at the end of training.";
    page.table(&Words { name: "clusters", caption, protocol: &protocol }, &head, &rows);
    page.note("clusters", json!({"protocol": protocol, "runs": figures}));
    Ok(())
}

/// The cluster of each image; none where there are fewer images than clusters.
fn clusters(subject: &Subject, num_clusters: usize) -> anyhow::Result<Option<Vec<u32>>> {
    if num_clusters > subject.bank.images.len() {
        return Ok(None);
    }
    let config = |seed| KmeansConfig { num_clusters, seed, ..KmeansConfig::default() };
    let mut found = (0..STARTS).map(|seed| kmeans(&subject.bank.rows, &config(seed))).collect::<Result<Vec<_>, _>>()?;
    found.sort_by(|a, b| a.inertia.total_cmp(&b.inertia));
    Ok(found.into_iter().next().map(|best| best.labels))
}
