//! Named settings, and those chosen for one's own images.

use la_cli::recipes::{Beginning, Preset, PRESETS};
use la_core::{config::TrainConfig, train::health::of_settings};

#[test]
fn the_published_preset_is_the_default_and_fits_smaller_sets() {
    let paper = (Preset::of_name("imagenet-paper").unwrap().config)();
    assert_eq!(serde_json::to_value(&paper).unwrap(), serde_json::to_value(TrainConfig::default()).unwrap());
    assert_eq!(paper.fit(900).unwrap().num_background(), 60);
}

#[test]
fn every_preset_is_valid_and_found_by_its_name() {
    for preset in PRESETS {
        (preset.config)().validate().unwrap_or_else(|error| panic!("{}: {error}", preset.name));
    }
    let message = Preset::of_name("slow").unwrap_err().to_string();
    assert_eq!(message, "preset must be one of quick, fashion-mnist, imagenette, cifar10, imagenet-paper, got slow");
}

#[test]
fn settings_for_ones_own_images_follow_their_number() {
    let own = |num_images, epochs| Beginning::Weights.settings(num_images, epochs);
    assert!(own(600, None).epochs > own(5000, None).epochs, "few images are seen more often");
    for num_images in [2, 20, 300, 5000, 100_000] {
        for epochs in [None, Some(1), Some(2), Some(50)] {
            let config = own(num_images, epochs);
            assert!(config.ir_epochs < config.epochs, "local aggregation is reached: {config:?}");
            TrainConfig { init: Some("weights".into()), ..config }.fit(num_images).unwrap();
        }
    }
    assert_eq!(own(600, Some(8)).ir_epochs, 6);
}

#[test]
fn settings_chosen_for_ones_own_images_warn_of_nothing() {
    for beginning in [Beginning::Weights, Beginning::Scratch] {
        for num_images in [60, 100, 300, 600, 1500, 5000, 60_000] {
            let config = TrainConfig { init: Some("weights".into()), ..beginning.settings(num_images, None) };
            let told = of_settings(&config.fit(num_images).unwrap(), num_images);
            assert_eq!(told, [], "{num_images} images, {beginning:?}");
        }
    }
}
