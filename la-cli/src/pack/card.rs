//! The model card: what the Hub reads between `---`, and what people read below.

use super::args::{PackArgs, BESIDE_METRICS};
use super::settings::{is_standard, Figure, Packed, OUR_KEY};
use crate::output::{counted, percent, shell_line, thousands};
use crate::progress::duration;
use la_core::ops::device::Precision;
use la_core::resnet::{ResNetConfig, Stem};
use std::path::{Component, Path};

/// Tags that the card carries.
const TAGS: [&str; 6] = ["self-supervised", "local-aggregation", "candle", "image-similarity", "image-embeddings", "resnet"];
/// Data by name or by the beginning of its name, what the Hub calls it, and its licence where it states one.
const DATASETS: [(&str, &str, Option<&str>); 5] = [
    ("sample", "zalando-datasets/fashion_mnist", Some("MIT")),
    ("fashion-mnist", "zalando-datasets/fashion_mnist", Some("MIT")),
    ("cifar100", "uoft-cs/cifar100", None),
    ("cifar10", "uoft-cs/cifar10", None),
    ("imagenette", "frgfm/imagenette", None),
];

/// What a card is written from.
pub struct Card<'a> {
    /// Options of the command.
    pub args: &'a PackArgs,
    /// The network.
    pub net: &'a ResNetConfig,
    /// Dimensions and features of the read-out, where there is one.
    pub readout: Option<(usize, usize)>,
    /// What is known of the run and its figures.
    pub packed: &'a Packed,
    /// Digest of model.safetensors.
    pub sha256: String,
}

/// A row of the table of figures, in words.
pub struct FigureLine {
    /// What was measured.
    pub name: String,
    /// kNN top-1.
    pub knn: String,
    /// Linear probe top-1, where measured.
    pub linear: Option<String>,
}

/// What is compared, these weights first, as they are packed before as they were trained.
pub fn figure_lines(packed: &Packed) -> Vec<FigureLine> {
    let Some(figures) = &packed.figures else { return Vec::new() };
    let pixels = |name: &str, knn: Option<f32>| knn.map(|knn| FigureLine { name: name.into(), knn: percent(knn), linear: None });
    let resized = figures.resized.iter().flat_map(|at| pair(packed, at.weights, at.beside, &format!(" at {} px", at.size)));
    let side = if figures.resized.is_some() { format!(" at {} px", packed.run.train.size) } else { String::new() };
    resized
        .chain(pair(packed, figures.weights, figures.beside, &side))
        .chain([line(format!("random initialisation{side}"), figures.random_init)])
        .chain(pixels("raw pixels", figures.raw_pixels))
        .chain(pixels("whitened pixels", figures.whitened_pixels))
        .collect()
}

/// These weights and the run beside, at one side.
fn pair(packed: &Packed, weights: Figure, beside: Option<Figure>, side: &str) -> Vec<FigureLine> {
    let beside = packed.beside.iter().zip(beside);
    let beside = beside.map(|(beside, figure)| line(format!("{}, {}{side}", beside.name, counted(beside.epochs, "epoch")), figure));
    std::iter::once(line(format!("these weights{side}"), weights)).chain(beside).collect()
}

fn line(name: String, figure: Figure) -> FigureLine {
    FigureLine { name, knn: percent(figure.knn_top1), linear: figure.linear_top1.map(percent) }
}

impl Card<'_> {
    /// The whole of README.md.
    pub fn text(&self) -> String {
        let parts = [
            self.front_matter(),
            self.opening(),
            self.figures(),
            self.origin(),
            self.usage(),
            self.elsewhere(),
            self.limitations(),
            self.files(),
            citation(),
        ];
        parts.join("\n")
    }

    fn title(&self) -> String {
        let train = &self.packed.run.train;
        let usual = || format!("{} by Local Aggregation on {}, {} px", train.arch, train.data, train.size);
        escaped(&self.args.card.title.clone().unwrap_or_else(usual))
    }

    fn name(&self) -> String {
        self.args.out.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// How the folder is named in commands, as a shell reads it.
    fn place_in_shell(&self) -> String {
        shell_line(&[self.place()])
    }

    /// The folder itself: as it was on the command line, unless that says where on this machine it is.
    fn place(&self) -> String {
        let is_plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if is_plain(&self.args.out) {
            self.args.out.display().to_string()
        } else {
            self.name()
        }
    }

    fn dataset(&self) -> Option<String> {
        let data = &self.packed.run.train.data;
        let of_hub = data.strip_prefix("hf:").and_then(|id| id.split(':').next()).map(str::to_string);
        let known = || known(data).map(|(_, id, _)| id.to_string());
        self.args.card.dataset.clone().or(of_hub).or_else(known)
    }

    /// The images' name, for people.
    fn data(&self) -> String {
        match self.packed.run.train.data.as_str() {
            "sample" => "the sample inside la-cli, a part of Fashion-MNIST".into(),
            data => escaped(data),
        }
    }

    /// Whose licence the images have.
    fn data_license(&self) -> String {
        let of_data = || known(&self.packed.run.train.data).and_then(|(_, _, license)| license.map(str::to_string));
        match self.args.card.data_license.clone().or_else(of_data) {
            Some(license) => format!("the images that they were trained on have this licence: {}", escaped(&license)),
            None => "the images that they were trained on have licences of their own".into(),
        }
    }

    /// The model on the Hub that training began from.
    fn base_model(&self) -> Option<&str> {
        let name = self.packed.run.train.init.as_ref()?.to_str()?.strip_prefix("hf:")?;
        name.split(['@', ':']).next()
    }

    fn front_matter(&self) -> String {
        let mut yaml = format!("---\nlicense: {}\n", self.args.card.license());
        if is_standard(self.net) {
            yaml += "library_name: timm\n";
        }
        yaml += "pipeline_tag: image-feature-extraction\n";
        yaml += &list("tags", TAGS.iter().map(|tag| tag.to_string()));
        if let Some(base) = self.base_model() {
            yaml += &format!("base_model: {}\n", quoted(base));
        }
        yaml += &list("datasets", self.dataset().into_iter().map(|id| quoted(&id)));
        yaml += &list("metrics", std::iter::once("accuracy".to_string()));
        yaml + &self.model_index() + "---\n"
    }

    fn model_index(&self) -> String {
        let Some(figures) = &self.packed.figures else { return String::new() };
        let metric =
            |name: String, value: f32| format!("    - type: accuracy\n      name: {}\n      value: {:.2}\n", quoted(&name), 100.0 * value);
        let weights = figures.resized.map_or(figures.weights, |at| at.weights);
        let knn = format!("kNN top-1 (K = {}, temperature {})", figures.knn.k, figures.knn.temperature);
        let data = &self.packed.run.train.data;
        let mut yaml = format!("model-index:\n- name: {}\n  results:\n", quoted(&self.name()));
        yaml += "  - task:\n      type: image-classification\n      name: classification of frozen embeddings\n";
        yaml += &format!("    dataset:\n      type: {}\n      name: {}\n", quoted(&self.dataset().unwrap_or(data.clone())), quoted(data));
        yaml += "    metrics:\n";
        yaml += &metric(knn, weights.knn_top1);
        yaml + &weights.linear_top1.map_or(String::new(), |top1| metric("linear probe top-1".into(), top1))
    }

    fn opening(&self) -> String {
        let (net, train) = (self.net, &self.packed.run.train);
        format!(
            "# {}\n\nImage embeddings learned **without labels** by [Local Aggregation](https://arxiv.org/abs/1903.12355) (Zhuang, Zhai, \
             Yamins, ICCV 2019), in Rust on [candle](https://github.com/huggingface/candle).\n\n\
             {}, {} stem, width {}: a picture of {} × {} pixels becomes {} numbers whose direction says what it looks like. Trained on {} \
             of {}{} for {}{}.\n",
            self.title(),
            net.arch,
            net.stem,
            net.width,
            self.packed.size(),
            self.packed.size(),
            self.dim(),
            counted(self.packed.run.num_images, "image"),
            self.data(),
            self.packed.size.map_or(String::new(), |_| format!(" at {} × {}", train.size, train.size)),
            counted(self.packed.epochs, "epoch"),
            match train.ir_epochs.min(self.packed.epochs) {
                0 => String::new(),
                first => format!(", the first {first} of instance recognition"),
            },
        )
    }

    fn figures(&self) -> String {
        let mut text = "## Figures\n\n".to_string();
        match &self.packed.figures {
            None => text += "The images have no labels, so there is no accuracy to state.\n",
            Some(figures) => {
                text += &format!("| | kNN top-1 (K = {}, τ = {})", figures.knn.k, figures.knn.temperature);
                text += if self.args.card.linear { " | linear probe top-1 |\n|---|---|---|\n" } else { " |\n|---|---|\n" };
                text += &figure_lines(self.packed).iter().map(|line| self.row(line)).collect::<String>();
                text += &format!(
                    "\nMeasured on the f16 weights of this folder by {}: {} re-embedded un-augmented, batch norm in eval mode, {} \
                     classified. Labels were used for these figures alone.{}{}\n",
                    if self.readout.is_some() {
                        "the read-out, which search compares (`la-cli train` prints accuracy by the output, which the loss compares)"
                    } else {
                        "the network's output"
                    },
                    counted(figures.num_train, "training image"),
                    counted(figures.num_test, "test image"),
                    if self.args.card.linear {
                        " The linear probe is one softmax layer on the pooled features, 70 epochs of SGD, one crop."
                    } else {
                        ""
                    },
                    if figures.raw_pixels.is_some() { " Pixels were measured when the run began." } else { "" },
                );
            }
        }
        let drawn = if self.packed.figures.is_some() { "Loss and kNN accuracy" } else { "Loss" };
        text + &format!("\n![{drawn} by epoch](curves.png)\n")
    }

    fn row(&self, line: &FigureLine) -> String {
        let linear = if self.args.card.linear { format!(" {} |", line.linear.as_deref().unwrap_or("–")) } else { String::new() };
        format!("| {} | {} |{linear}\n", escaped(&line.name), line.knn)
    }

    fn origin(&self) -> String {
        let Packed { run, epochs, seconds, command, beside, sample, .. } = self.packed;
        let beside = beside.iter().map(|beside| {
            let time = duration(beside.seconds);
            format!(
                "\nThe run beside it ({}, {}, {time}):\n\n```sh\n{}\n```\n{}",
                beside.name,
                counted(beside.epochs, "epoch"),
                command_line(&beside.command),
                before(beside.branched_after, beside.init.as_deref())
            )
        });
        let rows = [
            ("seed", run.train.seed.to_string()),
            ("commit", run.git_commit.clone().unwrap_or("unknown".into())),
            ("device", run.device.clone()),
            ("precision", run.train.precision.to_string()),
            ("machine", run.machine.clone().unwrap_or("not recorded".into())),
            ("time", format!("{} for {}, evaluation included", duration(*seconds), counted(*epochs, "epoch"))),
            ("images", thousands(run.num_images)),
            ("versions", format!("la-core {}, candle {}", run.versions.la_core, run.versions.candle_core)),
        ];
        let rows: String = rows.iter().map(|(name, value)| format!("| {name} | {} |\n", escaped(value))).collect();
        let check = sample.map_or(String::new(), |sample| {
            format!(
                "\nOne figure that needs no data of yours, on images inside the program (K = {}, τ = {}): `la-cli eval {} --data sample --limit {}` \
                 says {}.\n",
                sample.knn.k,
                sample.knn.temperature,
                self.place_in_shell(),
                sample.limit,
                percent(sample.knn_top1)
            )
        });
        // Where it was chosen for the processor, another may choose otherwise.
        let is_chosen = run.train.precision != Precision::F32 && !command.iter().any(|word| word.starts_with("--precision"));
        let chosen = if is_chosen { format!(" --precision {}", run.train.precision) } else { String::new() };
        format!(
            "## Made by\n\n```sh\n{}{chosen}\n```\n\n| | |\n|---|---|\n{rows}\n[config.json](config.json) holds every setting, resolved.\n{}{}{check}",
            command_line(command),
            before(run.branched_after, run.train.init.as_deref()),
            beside.collect::<String>()
        )
    }

    fn usage(&self) -> String {
        let place = self.place_in_shell();
        format!(
            "## Use\n\n```sh\n\
             la-cli search {place} --data FOLDER --query PHOTO --panel found.png   # nearest pictures, and a picture of them\n\
             la-cli embed  {place} --data FOLDER --out embeddings.safetensors      # (N, {})\n\
             la-cli export {place} --data FOLDER --out site                        # a page that searches in the browser\n\
             la-cli serve  {place} --data FOLDER --open\n```\n\n{}\
             Wherever the folder's name stands, `hf:owner/name` does for a copy on the Hub.\n",
            self.dim(),
            self.about_readout()
        )
    }

    /// Length of the embeddings.
    fn dim(&self) -> usize {
        self.readout.map_or(self.net.embedding_dim, |(dim, _)| dim)
    }

    fn about_readout(&self) -> String {
        let Some((dim, num_features)) = self.readout else { return String::new() };
        let means = match self.net.readout_bands(num_features) {
            Ok(2) => "spatial means of layer3's upper and lower half and of layer4",
            _ => "spatial means of layer3 and layer4",
        };
        format!(
            "The embedding is the read-out: {means}, joined, times `readout.weight` ({dim}, {num_features}) plus `readout.bias` in \
             `readout.safetensors`, divided by its length. The map whitens principal components of the training images; it was learned without \
             labels. Search and evaluation fit it to the pictures they compare, in up to 384 dimensions. `--embedding output` takes the network's output of {} numbers instead, which the loss compares.\n\n",
            self.net.embedding_dim
        )
    }

    fn elsewhere(&self) -> String {
        let mut normal = "**L2 normalisation is not in the graph**: divide the outputs by their length before comparing them.".to_string();
        if self.readout.is_some() {
            normal += &format!(" They are the network's {} outputs, not the read-out.", self.net.embedding_dim);
        }
        let builds = match (self.net.width, self.net.stem) {
            (64, Stem::Imagenet) => format!("{}\n{}", self.torchvision(""), self.timm()),
            (64, Stem::Small) => format!(
                "{}\nThe small stem is a 3×3 convolution of stride 1 without max-pool: replace both, as above, before loading. timm builds no such \
                 stem.\n",
                self.torchvision(
                    "net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)                # the small stem\n\
                     net.maxpool = torch.nn.Identity()\n"
                )
            ),
            (width, _) => format!(
                "Tensors have torchvision's names and layout, but torchvision, timm and candle-transformers build ResNets of width 64 only, not \
                 of width {width}: use la-cli, or la-core's `resnet::ResNet::from_tensors`.\n"
            ),
        };
        format!("## Elsewhere\n\n{normal}\n\n{builds}")
    }

    fn torchvision(&self, stem: &str) -> String {
        let (arch, dim) = (self.net.arch, self.net.embedding_dim);
        let train = &self.packed.run.train;
        let normalization = train.normalization.unwrap_or_default();
        let resized = (self.packed.size() as f64 / train.crop_fraction.unwrap_or(1.0)).round();
        format!(
            "```python\nimport safetensors.torch, torch, torchvision\nfrom torchvision import transforms\n\n\
             net = torchvision.models.{arch}(num_classes={dim})\n{stem}\
             net.load_state_dict(safetensors.torch.load_file(\"model.safetensors\"))      # strict: nothing missing, nothing extra\n\
             prepare = transforms.Compose([transforms.Resize({resized}), transforms.CenterCrop({size}), transforms.ToTensor(),\n\
             {indent}transforms.Normalize({mean:?}, {std:?})])\n\
             embedding = torch.nn.functional.normalize(net.eval()(prepare(picture)[None]))   # picture: a PIL image in RGB\n```\n",
            size = self.packed.size(),
            indent = " ".repeat(30),
            mean = normalization.mean,
            std = normalization.std,
        )
    }

    fn timm(&self) -> String {
        format!(
            "```python\nimport timm, torch\n\nnet = timm.create_model(\"local-dir:{}\", pretrained=True).eval()\n\
             prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(net))\n\
             embedding = torch.nn.functional.normalize(net(prepare(picture)[None]))          # net.forward_features for what lies below\n```\n",
            self.place()
        )
    }

    fn limitations(&self) -> String {
        let beginning = if self.packed.run.train.init.is_some() { ", from weights that had been trained before" } else { "" };
        format!(
            "## Limitations\n\nTrained on {} of {}{beginning}: pictures unlike these are told apart less well. Similar means that pictures look \
             alike to the network, at {size} × {size} pixels; it does not prove that two show the same thing or person. There is no search by \
             text.\n",
            counted(self.packed.run.num_images, "image"),
            self.data(),
            size = self.packed.size(),
        )
    }

    fn files(&self) -> String {
        let beside = if self.packed.beside.is_some() { format!(", `{BESIDE_METRICS}` of the run beside") } else { String::new() };
        let readout = if self.readout.is_some() { " `readout.safetensors`, the read-out's map in f32;" } else { "" };
        format!(
            "## Files\n\n`model.safetensors`: convolutions and the last layer in f16, batch norm and biases in f32, sha256\n`{}`.\n\n\
             `config.json` in timm's shape, with our settings under `{}`; `metrics.jsonl`, one JSON object per epoch{beside}, drawn in `curves.png`;{readout} `SHA256SUMS` for `sha256sum -c`, \
             against which la-cli checks the weights each time it opens them.\n\n\
             {}; {}.\n",
            self.sha256,
            OUR_KEY,
            match self.args.card.license.as_deref() {
                Some(license) => format!("The weights have this licence: {}", escaped(license)),
                None => "No licence of the weights is stated: ask who published them".into(),
            },
            self.data_license()
        )
    }
}

/// What is known of data by its name.
fn known(data: &str) -> Option<&'static (&'static str, &'static str, Option<&'static str>)> {
    DATASETS.iter().find(|(name, ..)| data.starts_with(name))
}

/// Text in Markdown that stays text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '\\' | '`' | '*' | '[' | ']' | '|' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// What a run went on from.
fn before(branched_after: Option<usize>, init: Option<&Path>) -> String {
    let init = init.map_or(String::new(), |init| {
        format!(
            "\nIt began from weights that had been trained before, `{}`; the epochs behind those are not counted here.\n",
            init.display()
        )
    });
    let shared = branched_after.map_or(String::new(), |epochs| {
        let first = if epochs == 1 { "epoch is that".to_string() } else { format!("{epochs} epochs are those") };
        format!("\nIts first {first} of another run, whose checkpoint it went on from.\n")
    });
    init + &shared
}

fn list(name: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("- {item}\n")).collect();
    if items.is_empty() {
        items
    } else {
        format!("{name}:\n{items}")
    }
}

/// A YAML string: JSON's are.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn citation() -> String {
    "## Citation\n\n```bibtex\n@inproceedings{zhuang2019local,\n  \
     title     = {Local Aggregation for Unsupervised Learning of Visual Embeddings},\n  \
     author    = {Zhuang, Chengxu and Zhai, Alex Lin and Yamins, Daniel},\n  \
     booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},\n  \
     year      = {2019}\n}\n```\n"
        .to_string()
}

fn command_line(words: &[String]) -> String {
    if words.is_empty() {
        return "# not recorded".into();
    }
    shell_line(words)
}
