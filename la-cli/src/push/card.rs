//! The card as visitors of the Hub need it: its commands and code name the model there, not a folder here.

/// The card of a packed folder, for the model `id`, and the address of its page where there is one.
pub fn for_hub(card: &str, id: &str, page: Option<&str>) -> String {
    let place = place(card);
    let is_of_folders = |line: &&str| line.starts_with("Wherever the folder's name stands");
    let mut text: String = card.lines().filter(|line| !is_of_folders(line)).map(|line| line_for_hub(line, place, id) + "\n").collect();
    text = text.replace("\"local-dir:", "\"hf-hub:");
    text =
        text.replace("import safetensors.torch, torch, torchvision\n", "import huggingface_hub, safetensors.torch, torch, torchvision\n");
    text = text.replace(
        "load_file(\"model.safetensors\")",
        &format!("load_file(huggingface_hub.hf_hub_download(\"{id}\", \"model.safetensors\"))"),
    );
    match page {
        Some(page) => text.replacen("\n## Use\n", &format!("\n## Use\n\nSearch in the browser: <{page}>\n"), 1),
        None => text,
    }
}

/// What `pack` called the folder in its commands.
fn place(card: &str) -> Option<&str> {
    card.lines().find_map(|line| line.strip_prefix("la-cli search ")?.split_once(" --data ")).map(|(place, _)| place)
}

fn line_for_hub(line: &str, place: Option<&str>, id: &str) -> String {
    let is_name = line.starts_with("- name: ");
    match place {
        // The name of the model in its index of results.
        _ if is_name => format!("- name: {}", serde_json::Value::from(id)),
        Some(place) if line.contains("la-cli ") => line.replace(&format!(" {place} "), &format!(" hf:{id} ")),
        Some(place) => line.replace(&format!("\"local-dir:{place}\""), &format!("\"local-dir:{id}\"")),
        None => line.to_string(),
    }
}

/// `README.md` of the Space that shows the page.
pub fn of_space(title: &str, model: &str, license: &str) -> String {
    let title = serde_json::Value::from(title);
    format!(
        "---\ntitle: {title}\nemoji: 🔎\ncolorFrom: blue\ncolorTo: gray\nsdk: static\napp_file: index.html\nmodels:\n- {model}\n\
         license: {license}\ncustom_headers:\n  cross-origin-embedder-policy: require-corp\n  cross-origin-opener-policy: same-origin\n  \
         cross-origin-resource-policy: cross-origin\n---\n\n\
         Find similar pictures with [{model}](https://huggingface.co/{model}). Network and search run in the browser: pictures that \
         visitors bring stay on their machine.\n"
    )
}

/// The address under which a static Space shows its page alone, where threads and a cache of its own are granted.
pub fn direct_address(space: &str) -> String {
    let part = space.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    format!("https://{part}.static.hf.space")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: &str = "---\nlicense: mit\nmodel-index:\n- name: \"mine\"\n  results:\n---\n\n# Mine\n\nsays `la-cli eval packed/mine --data \
                        sample --limit 1000` 77 %\n\n## Use\n\n```sh\nla-cli search packed/mine --data FOLDER --query PHOTO\nla-cli embed  \
                        packed/mine --data FOLDER\n```\n\nWherever the folder's name stands, `hf:owner/name` does for a copy on the Hub.\n\n```python\nnet = timm.create_model(\"local-dir:packed/mine\", pretrained=True)\n```\n";

    #[test]
    fn a_card_on_the_hub_names_the_model_there() {
        let card = for_hub(CARD, "me/other", Some("https://me-other.static.hf.space"));
        for part in [
            "- name: \"me/other\"\n",
            "`la-cli eval hf:me/other --data sample --limit 1000` 77 %",
            "la-cli search hf:me/other --data FOLDER --query PHOTO\n",
            "la-cli embed  hf:me/other --data FOLDER\n",
            "timm.create_model(\"hf-hub:me/other\", pretrained=True)",
            "## Use\n\nSearch in the browser: <https://me-other.static.hf.space>\n\n```sh\n",
        ] {
            assert!(card.contains(part), "{part:?} is not in\n{card}");
        }
        assert!(!card.contains("packed/mine") && !card.contains("Wherever"), "{card}");
    }

    #[test]
    fn a_space_has_a_name_in_the_address_of_its_page() {
        assert_eq!(direct_address("Me/my_page.v2"), "https://me-my-page-v2.static.hf.space");
    }
}
