//! The command that makes a run, from its settings: a preset and the flags that override it.

use crate::output::decimal;
use crate::run::RunConfig;
use crate::train::TrainArgs;
use clap::{Arg, ArgAction, Args, Command};
use la_core::config::{TrainConfig, PRESETS};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Settings that no result depends on, and one that comes with `data`.
const LEFT_OUT: [&str; 3] = ["threads", "checkpoint_minutes", "checkpoint_interval"];
/// What a setting costs that no flag reaches, in flags: such a preset is taken only where every one has some.
const UNREACHABLE: usize = 1000;

/// Settings by their path, such as `augment.crop_min_area`.
type Leaves = BTreeMap<String, Value>;

/// The words of `la-cli train …` that give the run's settings, by the preset that needs the fewest flags.
pub fn command(run: &RunConfig) -> anyhow::Result<Vec<String>> {
    let candidates = PRESETS.iter().map(|preset| from_preset(run, preset.name, (preset.config)())).collect::<anyhow::Result<Vec<_>>>()?;
    let best = candidates.into_iter().min_by_key(|(cost, _)| *cost).map(|(_, words)| words).unwrap_or_default();
    let device = Some(run.device.as_str()).filter(|device| device.starts_with("cuda")).map(|_| ["--device", "cuda"].map(String::from));
    Ok(["la-cli", "train"].map(String::from).into_iter().chain(best).chain(device.into_iter().flatten()).collect())
}

/// How many flags it takes from a preset to the run, and which.
fn from_preset(run: &RunConfig, name: &str, preset: TrainConfig) -> anyhow::Result<(usize, Vec<String>)> {
    let wanted = leaves(&serde_json::to_value(&run.train)?);
    let given = leaves(&serde_json::to_value(&preset)?);
    let fitted = fitted(&preset, &given, &wanted, run.num_images)?;
    let flags = TrainArgs::augment_args(Command::new("train"));
    let (mut cost, mut words) = (0, vec!["--preset".to_string(), name.to_string()]);
    for (path, value) in &wanted {
        let chosen = given.get(path).map(|before| if is_open(before) { fitted.get(path).unwrap_or(before) } else { before });
        if chosen == Some(value) || is_left_out(path, value, &given) {
            continue;
        }
        let field = path.rsplit('.').next().unwrap_or(path);
        match flags.get_arguments().find(|flag| flag.get_id() == field) {
            Some(flag) => words.extend(words_of(flag, value)),
            None => cost += UNREACHABLE,
        }
    }
    Ok((cost + words.len(), words))
}

/// The preset with the run's own values wherever it does not leave them open, and then fitted to as many images.
fn fitted(preset: &TrainConfig, given: &Leaves, wanted: &Leaves, num_images: usize) -> anyhow::Result<Leaves> {
    let mut settings = serde_json::to_value(preset)?;
    for (path, value) in wanted.iter().filter(|(path, _)| given.get(*path).is_some_and(|value| !is_open(value))) {
        set(&mut settings, path, value);
    }
    let fitted = serde_json::from_value::<TrainConfig>(settings)?.fit(num_images);
    // Settings that do not fit together leave every open one to its flag.
    Ok(fitted.map_or(Leaves::new(), |fit| serde_json::to_value(fit.config).map_or(Leaves::new(), |value| leaves(&value))))
}

fn is_open(value: &Value) -> bool {
    value.is_null() || value == "auto"
}

/// Whether a setting needs no flag: nothing hangs on it, nothing was chosen, or it was measured on the images.
fn is_left_out(path: &str, value: &Value, given: &Leaves) -> bool {
    let is_measured = path.starts_with("normalization.") && given.get("normalization").is_some_and(Value::is_null);
    LEFT_OUT.contains(&path) || value.is_null() || is_measured
}

fn words_of(flag: &Arg, value: &Value) -> Vec<String> {
    let name = format!("--{}", flag.get_long().unwrap_or(flag.get_id().as_str()));
    match (flag.get_action(), value) {
        (ArgAction::SetTrue, _) => vec![name],
        (_, value) => vec![name, in_words(value)],
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(in_words).collect::<Vec<_>>().join(","),
        Value::Number(number) => number.as_f64().filter(|_| number.is_f64()).map_or(number.to_string(), decimal),
        other => other.to_string(),
    }
}

fn leaves(settings: &Value) -> Leaves {
    let mut out = Leaves::new();
    if let Value::Object(map) = settings {
        collect(map, "", &mut out);
    }
    out
}

fn collect(map: &Map<String, Value>, above: &str, out: &mut Leaves) {
    for (name, value) in map {
        match value {
            Value::Object(inner) => collect(inner, &format!("{above}{name}."), out),
            value => drop(out.insert(format!("{above}{name}"), value.clone())),
        }
    }
}

fn set(settings: &mut Value, path: &str, value: &Value) {
    let mut at = settings;
    for name in path.split('.') {
        at = &mut at[name];
    }
    *at = value.clone();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use la_core::config::{Ir, Monitor};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        train: TrainArgs,
    }

    fn run(train: TrainConfig, num_images: usize) -> RunConfig {
        let value = serde_json::json!({
            "train": train, "num_images": num_images, "num_test_images": null, "class_names": [], "device": "cpu", "notes": [],
            "versions": { "la_core": "0", "candle_core": "0" }, "git_commit": null,
        });
        serde_json::from_value(value).unwrap()
    }

    /// The settings that the words give, fitted as the run's were.
    fn read_back(words: &[String], num_images: usize) -> TrainConfig {
        let args = words[1..].iter().filter(|word| *word != "--device" && *word != "cuda");
        Cli::parse_from(args).train.recipe(num_images, None).unwrap().config.fit(num_images).unwrap().config
    }

    #[test]
    fn a_preset_alone_needs_no_flag() {
        let quick = TrainConfig::preset("quick").unwrap().fit(9000).unwrap().config;
        assert_eq!(command(&run(quick, 9000)).unwrap().join(" "), "la-cli train --preset quick");
    }

    #[test]
    fn the_command_gives_the_settings_back() {
        let quick = TrainConfig::preset("quick").unwrap();
        let mut changed = TrainConfig { data: "my photos".into(), lr: 0.12, width: 64, epochs: 7, num_clusters: Some(55), ..quick };
        (changed.augment.crop_min_area, changed.augment.hue, changed.sgd.weight_decay) = (0.3, 0.1, 5e-4);
        changed.monitor = Monitor::Bank;
        for (settings, num_images) in [(changed, 5000), (TrainConfig { ir: Ir::Nce, seed: 3, ..TrainConfig::default() }, 1_281_167)] {
            let settings = settings.fit(num_images).unwrap().config;
            let words = command(&run(settings.clone(), num_images)).unwrap();
            let back = read_back(&words, num_images);
            assert_eq!(serde_json::to_value(back).unwrap(), serde_json::to_value(settings).unwrap(), "{words:?}");
        }
    }

    #[test]
    fn what_the_number_of_images_decides_is_not_said() {
        let fitted = TrainConfig::preset("quick").unwrap().fit(1000).unwrap().config;
        let words = command(&run(TrainConfig { seed: 4, ..fitted }, 1000)).unwrap();
        assert_eq!(words.join(" "), "la-cli train --preset quick --seed 4");
    }
}
