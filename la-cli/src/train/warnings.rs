//! Warnings in words, each with the flag to change.

use crate::output::{command, counted, percent, thousands, warning};
use crate::recipes::Beginning;
use crate::source::images;
use la_core::config::TrainConfig;
use la_core::train::health::Warning;

/// Advises against training on so few images.
pub fn warn_of_few(num_images: usize, beginning: Beginning, config: &TrainConfig) {
    let fewest = beginning.fewest_images();
    if num_images >= fewest {
        return;
    }
    let over = match beginning {
        Beginning::Weights => "search over the weights it begins from",
        Beginning::Scratch => "on pixels",
    };
    warning!(
        "{} are few to learn from: with fewer than {}, training has not improved {over}. `{}` searches them without training",
        images(num_images, ""),
        thousands(fewest),
        command(&["serve", "--data", &config.data])
    );
}

/// What is wrong, and the way out.
pub fn words(warning: &Warning, config: &TrainConfig) -> String {
    match *warning {
        Warning::Collapse { spread, dim } => format!(
            "the embeddings collapse: two random images have a similarity of {:.2} on average, and {:.1} of {dim} dimensions are used, so \
             neighbours mean little. {}",
            spread.mean_cosine,
            spread.effective_rank,
            out_of_collapse(config)
        ),
        Warning::WithoutClose { share } => format!(
            "{} of the images have no close neighbour, more at each epoch: nothing pulls them. Begin anew with a lower --min-agreement \
             (now {}), fewer --num-clusters or more --num-background",
            percent(share as f32),
            config.min_agreement
        ),
        Warning::Background { num_background, num_images, num_clusters } => {
            let per_cluster = num_images.div_ceil(num_clusters);
            let (least, most) = (2 * per_cluster, num_images / 2);
            let why = match num_background > most {
                true => "is more than half of the images, so near and far are hardly told apart".to_string(),
                false => format!("is no more than the {per_cluster} images of a cluster, so there is nothing to tell close ones from"),
            };
            match least <= most {
                true => format!("num-background {num_background} {why}; choose --num-background between {least} and {most}"),
                false => format!("num-background {num_background} {why}; choose more --num-clusters (now {num_clusters})"),
            }
        }
        Warning::Clusters { num_clusters, num_images } => format!(
            "num-clusters {num_clusters} leaves {:.1} images to a cluster, so few have a close neighbour; choose --num-clusters up to {}",
            num_images as f64 / num_clusters as f64,
            (num_images / 18).max(2)
        ),
        Warning::NoLocalAggregation { epochs, ir_epochs } => format!(
            "local aggregation is never reached: {} of instance recognition fill all {epochs}; choose --ir-epochs below {epochs}, \
             such as --ir-epochs {}",
            counted(ir_epochs, "epoch"),
            epochs * 3 / 4
        ),
    }
}

fn out_of_collapse(config: &TrainConfig) -> String {
    if config.views == 2 {
        return format!(
            "Stop it and begin anew with a lower --lr (now {}) or a higher --temperature (now {})",
            config.lr, config.temperature
        );
    }
    let own = command(&["train", "--data", &config.data]);
    format!("Stop it and begin anew with `{own}`, whose settings fit the images, or with --views 2 --bank-init forward --temperature 0.2")
}
