//! Settings: published values, fitting to the data, refusals.

use la_core::config::{BankInit, Fit, Ir, Monitor, ScheduleKind, TrainConfig, PUBLISHED_NUM_IMAGES};

fn fit(config: &TrainConfig, num_images: usize) -> Fit {
    config.fit(num_images).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(config: &TrainConfig, num_images: usize) -> String {
    config.fit(num_images).expect_err("the setting is wrong").to_string()
}

#[test]
fn the_default_is_the_published_recipe_at_the_size_of_imagenet() {
    let fit = fit(&TrainConfig::default(), PUBLISHED_NUM_IMAGES);
    assert_eq!((fit.num_background(), fit.num_clusters(), fit.num_clusterings()), (4096, 30_000, 10));
    let config = fit.config;
    assert_eq!((config.ir_epochs, config.epochs, config.batch_size, config.num_noise), (10, 200, 128, 4096));
    assert_eq!((config.lr, config.temperature, config.bank_momentum), (0.03, 0.07, 0.5));
    assert_eq!((config.sgd.momentum, config.sgd.weight_decay), (0.9, 1e-4));
    assert_eq!((config.size, config.embedding_dim, config.kmeans_iters), (224, 128, 20));
    assert_eq!((config.ir, config.bank_init, config.monitor, config.views), (Ir::Nce, BankInit::Random, Monitor::Bank, 1));
}

#[test]
fn the_rate_falls_tenfold_after_150_and_177_epochs_of_local_aggregation() {
    let config = TrainConfig::default();
    let rate = |epoch: usize| config.learning_rate(epoch * 100, 100);
    assert_eq!((rate(0), rate(159)), (0.03, 0.03));
    assert!((rate(160) - 0.003).abs() < 1e-12 && (rate(186) - 0.003).abs() < 1e-12);
    assert!((rate(187) - 0.0003).abs() < 1e-12);
}

#[test]
fn a_cosine_falls_to_half_in_the_middle_after_a_linear_rise() {
    let config = TrainConfig { epochs: 12, lr: 1.0, schedule: ScheduleKind::Cosine, lr_warmup_epochs: 2.0, ..TrainConfig::default() };
    assert_eq!(config.learning_rate(0, 10), 0.05);
    assert_eq!(config.learning_rate(9, 10), 0.5);
    assert!((config.learning_rate(20 + 50, 10) - 0.5).abs() < 1e-12);
    assert!(config.learning_rate(119, 10) < 0.001);
}

#[test]
fn a_small_set_gets_counts_below_its_size_and_the_full_softmax() {
    for num_images in [2, 3, 10, 100, 9000, 60_000] {
        let fit = fit(&TrainConfig::default(), num_images);
        assert!((1..=num_images).contains(&fit.num_background()), "{num_images}: {}", fit.num_background());
        assert!((1..=num_images).contains(&fit.num_clusters()), "{num_images}: {}", fit.num_clusters());
        assert!(fit.config.batch_size <= num_images);
        assert_eq!((fit.config.ir, fit.config.monitor), (Ir::Softmax, Monitor::Reembed));
    }
}

#[test]
fn every_choice_is_reported_with_its_reason() {
    let notes = fit(&TrainConfig::default(), 9000).notes.join("\n");
    for name in ["num-background 600:", "num-clusters 500:", "num-clusterings 3:", "ir softmax:"] {
        assert!(notes.contains(name), "{name} is missing in\n{notes}");
    }
}

#[test]
fn two_views_leave_how_instance_recognition_is_computed_without_effect_and_say_so() {
    let fitted = fit(&TrainConfig { views: 2, ..TrainConfig::default() }, 9000);
    assert!(fitted.notes.iter().any(|note| note.starts_with("views 2: ") && note.contains("num-noise")), "{:?}", fitted.notes);
    let fitted = fit(&TrainConfig::default(), 9000);
    assert!(!fitted.notes.iter().any(|note| note.starts_with("views")), "{:?}", fitted.notes);
}

#[test]
fn a_fitted_configuration_fits_to_itself() {
    let once = fit(&TrainConfig::default(), 9000);
    let twice = fit(&once.config, 9000);
    assert_eq!(serde_json::to_value(&once.config).unwrap(), serde_json::to_value(&twice.config).unwrap());
    assert!(twice.notes.is_empty());
}

#[test]
fn counts_above_the_number_of_images_are_refused_by_name() {
    let more = TrainConfig { num_background: Some(501), ..TrainConfig::default() };
    assert_eq!(refusal(&more, 500), "num-background must be at most 500, the number of training images, got 501");
    let more = TrainConfig { num_clusters: Some(501), ..TrainConfig::default() };
    assert_eq!(refusal(&more, 500), "num-clusters must be at most 500, the number of training images, got 501");
    let none = TrainConfig { num_clusterings: Some(0), ..TrainConfig::default() };
    assert_eq!(refusal(&none, 500), "num-clusterings must be at least 1 and at most 1000, got 0");
    let more = TrainConfig { num_clusterings: Some(2), min_agreement: 3, ..TrainConfig::default() };
    assert_eq!(refusal(&more, 500), "min-agreement must be in 1..=2, the number of clusterings, got 3");
}

#[test]
fn one_image_is_too_few() {
    assert_eq!(refusal(&TrainConfig::default(), 1), "training needs at least 2 images, got 1");
}

#[test]
fn a_setting_out_of_range_is_refused_by_name() {
    let wrong: [(&str, TrainConfig); 10] = [
        ("lr", TrainConfig { lr: f64::NAN, ..TrainConfig::default() }),
        ("temperature", TrainConfig { temperature: 0.0, ..TrainConfig::default() }),
        ("temperature", TrainConfig { temperature: 1e-46, ..TrainConfig::default() }),
        ("bank-momentum", TrainConfig { bank_momentum: 1.0, ..TrainConfig::default() }),
        ("views", TrainConfig { views: 3, ..TrainConfig::default() }),
        ("batch-size", TrainConfig { batch_size: 1, ..TrainConfig::default() }),
        ("epochs", TrainConfig { epochs: 0, ..TrainConfig::default() }),
        ("size", TrainConfig { size: 0, ..TrainConfig::default() }),
        ("checkpoint-minutes", TrainConfig { checkpoint_minutes: Some(-1.0), ..TrainConfig::default() }),
        ("lr-milestones", TrainConfig { lr_milestones: vec![1.5], ..TrainConfig::default() }),
    ];
    for (name, config) in wrong {
        let message = refusal(&config, 500);
        assert!(message.starts_with(&format!("{name} must be")), "{name}: {message}");
    }
}

#[test]
fn random_weights_have_no_statistics_to_keep() {
    let config = TrainConfig { keep_statistics: true, ..TrainConfig::default() };
    assert_eq!(refusal(&config, 500), "keep-statistics must be false where training begins from random weights, got true");
}

#[test]
fn noise_contrastive_estimation_needs_a_temperature_whose_constant_is_a_number() {
    let cold = TrainConfig { temperature: 0.005, embedding_dim: 16, ir: Ir::Nce, ..TrainConfig::default() };
    assert_eq!(refusal(&cold, 500), "temperature 0.005 is too low for ir nce and embedding-dim 16: the constant Z / N comes to inf");
    TrainConfig { ir: Ir::Softmax, ..cold }.fit(500).unwrap();
}

#[test]
fn words_and_json_agree() {
    assert_eq!("softmax".parse::<Ir>().unwrap(), Ir::Softmax);
    assert_eq!(serde_json::to_string(&Ir::Softmax).unwrap(), "\"softmax\"");
    assert_eq!(Monitor::Reembed.to_string(), "reembed");
    assert_eq!("linear".parse::<ScheduleKind>().unwrap_err().to_string(), "schedule must be one of step, cosine, got linear");
}

#[test]
fn a_configuration_survives_json_and_a_misspelt_setting_does_not() {
    let config =
        TrainConfig { lr: 0.011834319526627217, temperature: 0.1 + 0.2, init: Some("model.safetensors".into()), ..TrainConfig::default() };
    let text = serde_json::to_string(&config).unwrap();
    let back: TrainConfig = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    assert_eq!((back.lr, back.temperature), (config.lr, config.temperature));
    let error = serde_json::from_str::<TrainConfig>("{\"learning_rate\": 1}").unwrap_err().to_string();
    assert!(error.contains("unknown field `learning_rate`"), "{error}");
}
