//! Digests of published files: what `SHA256SUMS` says is what is loaded.

use la_cli::digests::{check_beside, sha256, write_sums, SUMS};
use std::fs;
use std::path::Path;

/// FIPS 180-2's digest of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, content)| fs::write(folder.path().join(name), content).unwrap());
    folder
}

fn refusal(path: &Path) -> String {
    check_beside(path).unwrap_err().to_string()
}

#[test]
fn a_digest_is_that_of_the_standard() {
    let folder = folder_with(&[("a", "abc")]);
    assert_eq!(sha256(&folder.path().join("a")).unwrap(), ABC);
    assert!(sha256(&folder.path().join("none")).unwrap_err().to_string().contains("none: "));
}

#[test]
fn sums_list_every_other_file_by_name() {
    let folder = folder_with(&[("b", ""), ("a", "abc"), (SUMS, "old")]);
    fs::create_dir(folder.path().join("site")).unwrap();
    write_sums(folder.path()).unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(fs::read_to_string(folder.path().join(SUMS)).unwrap(), format!("{ABC}  a\n{empty}  b\n"));
}

#[test]
fn a_file_as_listed_passes_and_one_without_sums_too() {
    let folder = folder_with(&[("a", "abc")]);
    check_beside(&folder.path().join("a")).unwrap();
    write_sums(folder.path()).unwrap();
    check_beside(&folder.path().join("a")).unwrap();
    // As `sha256sum --binary` writes it, in capitals.
    fs::write(folder.path().join(SUMS), format!("{} *a\n", ABC.to_uppercase())).unwrap();
    check_beside(&folder.path().join("a")).unwrap();
}

#[test]
fn a_changed_file_is_named_with_both_digests_and_the_way_out() {
    let folder = folder_with(&[("a", "abc")]);
    write_sums(folder.path()).unwrap();
    fs::write(folder.path().join("a"), "abd").unwrap();
    let (path, got) = (folder.path().join("a"), sha256(&folder.path().join("a")).unwrap());
    let error = refusal(&path);
    for part in [path.to_str().unwrap(), &format!("expected sha256 {ABC}"), &format!("got {got}"), "download it again"] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}

#[test]
fn a_file_that_is_not_listed_is_refused() {
    let folder = folder_with(&[("a", "abc"), (SUMS, "")]);
    assert!(refusal(&folder.path().join("a")).contains("expected a line with the sha256 of a, got none"));
    // A name that ends alike is another one.
    fs::write(folder.path().join(SUMS), format!("{ABC}  ba\n")).unwrap();
    assert!(refusal(&folder.path().join("a")).contains("got none"));
}
