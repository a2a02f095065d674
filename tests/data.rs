//! Data sources on small files made for the purpose; encodings and expected values come from fixtures/data/make.py.

use candle_core::{safetensors::load, Device};
use la_cli::data::{decode::decode, list, open, OpenConfig};
use la_core::data::{self, Picture, Source, Splits, Subset};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::{tempdir, TempDir};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/data")
}

fn image(name: &str) -> Vec<u8> {
    fs::read(fixtures().join("images").join(name)).unwrap()
}

/// A folder with these files, each a copy of a fixture image.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempdir().unwrap();
    for (path, name) in files {
        write(dir.path(), path, &image(name));
    }
    dir
}

fn write(dir: &Path, path: &str, bytes: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn opened(dir: &Path) -> Splits {
    open(dir.to_str().unwrap(), &OpenConfig::default()).unwrap()
}

fn refused(dir: &Path) -> String {
    open(dir.to_str().unwrap(), &OpenConfig::default()).err().expect("an error").to_string()
}

fn names(source: &dyn Source) -> Vec<String> {
    (0..source.len()).map(|i| source.name(i)).collect()
}

fn labels(source: &dyn Source) -> Vec<Option<u32>> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

/// A JPEG whose header says 10,000 by 10,000 pixels.
fn hundred_megapixels() -> Vec<u8> {
    let mut bytes = image("rgb.jpg");
    let at = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[at + 5..at + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
    bytes
}

#[test]
fn every_encoding_gives_the_values_that_pillow_reads() {
    let expected = load(fixtures().join("images.safetensors"), &Device::Cpu).unwrap();
    assert!(expected.len() > 20);
    for (name, values) in &expected {
        let (height, width, _) = values.dims3().unwrap();
        let values: Vec<u8> = values.flatten_all().unwrap().to_vec1().unwrap();
        let picture = decode(&image(name), 224).unwrap();
        assert_eq!((picture.width, picture.height), (width, height), "{name}");
        let worst = picture.pixels.iter().zip(&values).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let tolerance = match name.as_str() {
            // Colour at half resolution: decoders interpolate it differently along the edges of the quarters.
            "subsampled.jpg" => 45,
            name if name.ends_with(".jpg") => 4,
            "alpha.png" | "alpha.webp" => 1,
            _ => 0,
        };
        assert!(worst <= tolerance, "{name}: {worst}");
    }
}

#[test]
fn large_files_are_reduced_but_never_below_what_a_small_crop_needs() {
    let pixels: Vec<u8> = (0..64 * 48).flat_map(|i| [(i % 64 * 4) as u8, 100, 7]).collect();
    let mut png = std::io::Cursor::new(vec![]);
    image::RgbImage::from_raw(64, 48, pixels).unwrap().write_to(&mut png, image::ImageFormat::Png).unwrap();
    let whole = decode(png.get_ref(), 11).unwrap();
    assert_eq!((whole.width, whole.height), (64, 48)); // 48 / 2 < 2.25 * 11
    let half = decode(png.get_ref(), 10).unwrap();
    assert_eq!((half.width, half.height), (32, 24));
    // Each value is the mean of the four that it stands for: 0 and 4, 8 and 12, ...
    assert!((0..32).all(|x| half.pixels[x * 3].abs_diff(2 + 8 * x as u8) <= 1 && half.pixels[x * 3 + 1..x * 3 + 3] == [100, 7]));
}

#[test]
fn a_scaled_jpeg_is_the_mean_of_its_blocks_and_upright() {
    // Slow ramps, which eighth-size blocks keep; an odd size, so that the last blocks are partial.
    let (width, height) = (403, 310);
    let ramp = |x: u32, y: u32| [(x / 2) as u8, (y / 2) as u8, ((x + y) / 4) as u8];
    let ramps = image::RgbImage::from_fn(width, height, |x, y| image::Rgb(ramp(x, y)));
    let mut jpeg = vec![];
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95).encode_image(&ramps).unwrap();
    for (size, factor) in [(60, 2), (30, 4), (15, 8), (8, 16)] {
        let picture = decode(&jpeg, size).unwrap();
        assert_eq!((picture.width, picture.height), ((width as usize).div_ceil(factor), (height as usize).div_ceil(factor)));
        // Beyond 1/8 the rest is resized, which spreads the partial block over the whole.
        let tolerance = if factor > 8 { 8 } else { 4 };
        for y in 1..picture.height - 1 {
            for x in 1..picture.width - 1 {
                let middle = |i: usize| (i * factor + factor / 2) as u32;
                let (ours, expected) = (&picture.pixels[(y * picture.width + x) * 3..][..3], ramp(middle(x), middle(y)));
                assert!(
                    ours.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= tolerance),
                    "1/{factor} at {x}, {y}: {ours:?} {expected:?}"
                );
            }
        }
    }
    for orientation in 2..=8 {
        let picture = decode(&image(&format!("orientation_{orientation}.jpg")), 4).unwrap();
        assert_eq!((picture.width, picture.height), (16, 12), "orientation {orientation}");
        assert!(picture.pixels[..3].iter().zip([200, 40, 30]).all(|(a, b)| a.abs_diff(b) < 6), "orientation {orientation}");
    }
}

#[test]
fn sub_folders_are_classes_in_the_order_of_their_names() {
    let dir = folder(&[("dog/2.png", "rgb.png"), ("dog/1.jpg", "rgb.jpg"), ("cat/deep/er/x.webp", "rgb.webp"), ("stray.bmp", "rgb.bmp")]);
    write(dir.path(), "dog/notes.txt", b"no image");
    write(dir.path(), "dog/.hidden.png", b"no image");
    let splits = opened(dir.path());
    assert_eq!(splits.train.class_names(), ["cat", "dog"]);
    assert_eq!(names(&*splits.train), ["cat/deep/er/x.webp", "dog/1.jpg", "dog/2.png", "stray.bmp"]);
    assert_eq!(labels(&*splits.train), [Some(0), Some(1), Some(1), None]);
    assert!(splits.test.is_none() && splits.unreadable.is_empty());
}

#[test]
fn one_sub_folder_or_none_is_no_class() {
    for files in [[("a.png", "rgb.png"), ("b.png", "gray.png")], [("all/a.png", "rgb.png"), ("all/b.png", "gray.png")]] {
        let splits = opened(folder(&files).path());
        assert_eq!(splits.train.len(), 2);
        assert!(splits.train.class_names().is_empty());
        assert_eq!(data::labels(&*splits.train), None);
    }
}

#[test]
fn train_and_val_folders_are_splits_with_the_same_classes() {
    let train = [("train/a/1.png", "rgb.png"), ("train/c/1.png", "rgb.png")];
    let test = [("val/b/1.png", "rgb.png"), ("val/c/1.png", "rgb.png"), ("test/unlabelled.png", "rgb.png")];
    let splits = opened(folder(&[&train[..], &test[..]].concat()).path());
    assert_eq!(splits.train.class_names(), ["a", "c", "b"]);
    assert_eq!(labels(&*splits.train), [Some(0), Some(1)]);
    // `test` comes first, but only `val` has classes.
    let test = splits.test.unwrap();
    assert_eq!(names(&*test), ["b/1.png", "c/1.png"]);
    assert_eq!(labels(&*test), [Some(2), Some(1)]);
}

#[test]
fn broken_files_are_listed_and_the_others_are_used() {
    let jpeg = image("rgb.jpg");
    let png = image("rgb.png");
    let dir = folder(&[("good.jpg", "rgb.jpg"), ("one_pixel.png", "one_pixel.png"), ("renamed.jpg", "rgb.png")]);
    let broken: [(&str, &[u8], &str); 8] = [
        ("cut.jpg", &jpeg[..jpeg.len() - 60], "truncated: the end-of-image marker is missing"),
        ("cut.png", &png[..png.len() - 30], "damaged"),
        ("cut_header.jpg", &jpeg[..100], "truncated in its header"),
        ("empty.jpg", b"", "empty file"),
        ("garbage.jpg", &[0x5a; 3000], "not an image of a known format"),
        ("garbage_after_magic.jpg", &[&[0xff, 0xd8, 0xff][..], &[0x11; 3000]].concat(), "truncated in its header"),
        ("garbage_after_magic.png", &[&png[..8], &[0x11; 3000]].concat(), "damaged header"),
        ("huge.jpg", &hundred_megapixels(), "too large: 10000x10000 is more than 64 megapixels"),
    ];
    for (name, bytes, _) in &broken {
        write(dir.path(), name, bytes);
    }
    for cache_bytes in [0, 1 << 20] {
        let splits = open(dir.path().to_str().unwrap(), &OpenConfig { cache_bytes, ..OpenConfig::default() }).unwrap();
        assert_eq!(names(&*splits.train), ["good.jpg", "one_pixel.png", "renamed.jpg"]);
        assert_eq!(splits.train.picture(1).unwrap().pixels, [10, 20, 30]);
        let listed: Vec<&str> = splits.unreadable.iter().map(|u| u.name.as_str()).collect();
        assert_eq!(listed, broken.map(|(name, ..)| name));
        for (unreadable, (name, _, reason)) in splits.unreadable.iter().zip(&broken) {
            assert!(unreadable.reason.contains(reason), "{name}: {}", unreadable.reason);
        }
    }
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_pipes_and_dangling_links_do_not_hang() {
    use std::os::unix::fs::symlink;
    let dir = folder(&[("a/1.png", "rgb.png"), ("b/2.png", "rgb.png")]);
    symlink("..", dir.path().join("a/up")).unwrap();
    symlink(".", dir.path().join("b/self")).unwrap();
    symlink("../a", dir.path().join("b/other")).unwrap();
    symlink("nowhere.png", dir.path().join("a/dangling.png")).unwrap();
    symlink("../b/2.png", dir.path().join("a/linked.png")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe.png")).status();
    let splits = opened(dir.path());
    assert_eq!(names(&*splits.train), ["a/1.png", "a/linked.png", "b/2.png"]);
    let reasons: Vec<(&str, &str)> = splits.unreadable.iter().map(|u| (u.name.as_str(), u.reason.as_str())).collect();
    assert!(reasons[0].0 == "a/dangling.png" && reasons[0].1.contains("No such file"), "{reasons:?}");
    if made.is_ok_and(|status| status.success()) {
        assert_eq!(reasons[1], ("pipe.png", "not a regular file"));
    }
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_listed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder(&[("a.png", "rgb.png"), ("b.png", "rgb.png"), ("closed/c.png", "rgb.png")]);
    fs::set_permissions(dir.path().join("b.png"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let reads_anything = fs::read(dir.path().join("b.png")).is_ok();
    let splits = opened(dir.path());
    fs::set_permissions(dir.path().join("closed"), fs::Permissions::from_mode(0o755)).unwrap();
    if reads_anything {
        assert_eq!(splits.train.len(), 3); // the superuser has every permission
    } else {
        assert_eq!(names(&*splits.train), ["a.png"]);
        assert!(splits.unreadable.iter().all(|u| u.reason.contains("ermission denied")), "{:?}", splits.unreadable);
        assert_eq!(splits.unreadable.len(), 2);
    }
}

#[test]
fn an_empty_folder_a_missing_one_and_a_single_image_say_what_is_expected() {
    let empty = tempdir().unwrap();
    assert!(refused(empty.path()).ends_with("expected images (JPEG, PNG, WebP, GIF, BMP or TIFF) in it or below, found none"));
    assert!(refused(&empty.path().join("no")).contains("expected sample, fashion-mnist, cifar10, cifar100, hf:owner/name"));
    write(empty.path(), "phone/x.HEIC", b"ftypheic");
    let error = refused(empty.path());
    assert!(
        error.ends_with("found none but 1 that cannot be read, such as phone/x.HEIC: HEIC is not read; convert it to JPEG or PNG"),
        "{error}"
    );
    write(empty.path(), "x.png", &image("rgb.png"));
    let listed = open(empty.path().to_str().unwrap(), &OpenConfig::default()).unwrap().unreadable;
    assert_eq!(listed.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["phone/x.HEIC"]);
    assert!(refused(&empty.path().join("x.png")).ends_with("is one image, expected a folder of images"));
    write(empty.path(), "x.zip", b"PK");
    assert!(refused(&empty.path().join("x.zip")).contains("expected a folder, or an idx, CIFAR .bin or .parquet file"));
}

#[test]
fn a_folder_of_only_broken_files_names_the_first() {
    let dir = tempdir().unwrap();
    write(dir.path(), "a.jpg", b"garbage");
    write(dir.path(), "b.jpg", b"garbage");
    assert!(refused(dir.path()).ends_with("none of the 2 images could be read; the first, a.jpg: not an image of a known format"));
}

#[test]
fn a_listing_opens_no_file_and_gives_the_same_images() {
    let dir = folder(&[("train/a/1.png", "rgb.png"), ("train/b/2.png", "rgb.png"), ("val/a/3.png", "rgb.png"), ("val/b/4.png", "rgb.png")]);
    let src = dir.path().to_str().unwrap();
    let lazy = || list(src, &OpenConfig::default()).unwrap().unwrap().lazy(&OpenConfig::default()).unwrap();
    let (listed, opened) = (lazy(), opened(dir.path()));
    for (listed, opened) in [(&listed.train, &opened.train), (listed.test.as_ref().unwrap(), opened.test.as_ref().unwrap())] {
        assert_eq!((names(&**listed), labels(&**listed)), (names(&**opened), labels(&**opened)));
        assert_eq!(listed.class_names(), ["a", "b"]);
        assert_eq!(listed.picture(1).unwrap(), opened.picture(1).unwrap());
    }
    assert_eq!(listed.train.path(1).unwrap(), dir.path().join("train/b/2.png"));
    write(dir.path(), "train/a/broken.png", b"garbage");
    let listed = lazy();
    assert_eq!((names(&*listed.train)[1].as_str(), listed.unreadable.len()), ("a/broken.png", 0), "it was looked at");
    assert!(listed.train.picture(1).unwrap_err().to_string().starts_with("a/broken.png: "));
    assert!(list("sample", &OpenConfig::default()).unwrap().is_none());
}

#[test]
fn a_limit_draws_the_same_images_from_a_listing() {
    let dir = tempdir().unwrap();
    for i in 0..40 {
        write(dir.path(), &format!("{i:02}.png"), &if i % 4 == 0 { b"garbage".to_vec() } else { image("rgb.png") });
    }
    let config = OpenConfig { limit: Some(12), seed: 3, ..OpenConfig::default() };
    let (src, opened) = (dir.path().to_str().unwrap(), open(dir.path().to_str().unwrap(), &config).unwrap());
    let listed = list(src, &config).unwrap().unwrap().lazy(&config).unwrap();
    assert_eq!(names(&*listed.train), names(&*opened.train));
    assert_eq!(listed.unreadable, opened.unreadable);
}

#[test]
fn a_limit_draws_readable_images_by_seed_and_leaves_the_test_split() {
    let dir = tempdir().unwrap();
    for i in 0..40 {
        let bytes = if i % 4 == 0 { b"garbage".to_vec() } else { image("rgb.png") };
        write(dir.path(), &format!("train/{}/{i:02}.png", i % 2), &bytes);
    }
    for i in 0..5 {
        write(dir.path(), &format!("test/{}/{i}.png", i % 2), &image("rgb.png"));
    }
    let at = |seed, limit| open(dir.path().to_str().unwrap(), &OpenConfig { limit: Some(limit), seed, ..OpenConfig::default() });
    let (first, again, other) = (at(1, 10).unwrap(), at(1, 10).unwrap(), at(2, 10).unwrap());
    assert_eq!((first.train.len(), first.test.as_ref().unwrap().len()), (10, 5));
    assert_eq!(names(&*first.train), names(&*again.train));
    assert_ne!(names(&*first.train), names(&*other.train));
    for i in 0..10 {
        let class = if first.train.name(i).starts_with("0/") { 0 } else { 1 };
        assert_eq!(first.train.label(i), Some(class));
    }
    assert_eq!(at(1, 1000).unwrap().train.len(), 30);
    assert_eq!(at(1, 0).err().unwrap().to_string(), "limit must be at least 1 image, got 0");
}

#[test]
fn the_sample_has_900_and_100_images_of_each_class() {
    let splits = open("sample", &OpenConfig::default()).unwrap();
    let test = splits.test.unwrap();
    for (source, per_class) in [(&splits.train, 900), (&test, 100)] {
        let mut counts = [0; 10];
        labels(&**source).iter().for_each(|label| counts[label.unwrap() as usize] += 1);
        assert_eq!(counts, [per_class; 10]);
    }
    assert_eq!(splits.train.class_names()[9], "ankle-boot");
    // The first test image of Fashion-MNIST is an ankle boot.
    assert_eq!(splits.train.label(0), Some(9));
    let picture = splits.train.picture(0).unwrap();
    assert_eq!((picture.width, picture.height, picture.pixels.len()), (28, 28, 28 * 28 * 3));
    assert!(picture.pixels.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    let limited = open("sample", &OpenConfig { limit: Some(17), ..OpenConfig::default() }).unwrap();
    assert_eq!((limited.train.len(), limited.test.unwrap().len()), (17, 1000));
}

fn idx(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = dims.iter().flat_map(|dim| dim.to_be_bytes());
    [0, 0, 8, dims.len() as u8].into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn idx_files_are_read_gzipped_or_not() {
    let dir = tempdir().unwrap();
    write(dir.path(), "train-images-idx3-ubyte.gz", &gzipped(&idx(&[2, 1, 3], &[1, 2, 3, 4, 5, 6])));
    write(dir.path(), "train-labels-idx1-ubyte", &idx(&[2], &[4, 0]));
    write(dir.path(), "t10k-images-idx3-ubyte", &idx(&[1, 1, 3], &[7, 8, 9]));
    let splits = opened(dir.path());
    assert_eq!(labels(&*splits.train), [Some(4), Some(0)]);
    assert_eq!(splits.train.picture(1).unwrap().into_owned(), Picture::new(3, 1, vec![4, 4, 4, 5, 5, 5, 6, 6, 6]).unwrap());
    let test = splits.test.unwrap();
    assert_eq!((test.len(), test.label(0)), (1, None));
    let single = opened(&dir.path().join("train-images-idx3-ubyte.gz"));
    assert_eq!(labels(&*single.train), [Some(4), Some(0)]);
}

#[test]
fn damaged_idx_files_are_named_with_what_was_expected() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("train-images-idx3-ubyte");
    let cases = [
        (idx(&[2, 1, 3], &[1, 2, 3, 4, 5]), "expected [2, 1, 3] values after the header, got 5 (truncated or damaged)"),
        (idx(&[u32::MAX; 4], &[]), "(truncated or damaged)"),
        (vec![0, 0, 8, 3, 0], "truncated in its header"),
        (vec![1; 100], "expected an idx file of unsigned bytes"),
        (gzipped(&idx(&[2, 1, 3], &[0; 6]))[..20].to_vec(), "train-images-idx3-ubyte"),
    ];
    for (bytes, message) in cases {
        fs::write(&path, bytes).unwrap();
        let err = refused(dir.path());
        assert!(err.contains(message) && err.contains("train-images-idx3-ubyte"), "{err}");
    }
    fs::write(&path, idx(&[2, 1, 1], &[1, 2])).unwrap();
    write(dir.path(), "train-labels-idx1-ubyte", &idx(&[3], &[0, 1, 2]));
    assert!(refused(dir.path()).ends_with("expected 2 labels, one an image, got 3"));
}

/// One CIFAR record: labels, then planes in which red counts pixels, green is 100 and blue is the class.
fn cifar_record(labels: &[u8]) -> Vec<u8> {
    let red = (0..1024).map(|i| (i % 256) as u8);
    let class = labels[labels.len() - 1];
    labels.iter().copied().chain(red).chain([100; 1024]).chain([class; 1024]).collect()
}

#[test]
fn cifar_files_give_interleaved_pixels_and_fine_labels() {
    let ten = tempdir().unwrap();
    write(ten.path(), "cifar-10-batches-bin/data_batch_1.bin", &[cifar_record(&[3]), cifar_record(&[9])].concat());
    write(ten.path(), "cifar-10-batches-bin/data_batch_2.bin", &cifar_record(&[0]));
    write(ten.path(), "cifar-10-batches-bin/test_batch.bin", &cifar_record(&[5]));
    let splits = opened(ten.path());
    assert_eq!(labels(&*splits.train), [Some(3), Some(9), Some(0)]);
    assert_eq!(labels(&*splits.test.unwrap()), [Some(5)]);
    let picture = splits.train.picture(1).unwrap();
    assert_eq!(picture.pixels[33 * 3..35 * 3], [33, 100, 9, 34, 100, 9]);

    let hundred = tempdir().unwrap();
    write(hundred.path(), "train.bin", &[cifar_record(&[1, 77]), cifar_record(&[2, 5])].concat());
    let splits = opened(hundred.path());
    assert_eq!((labels(&*splits.train), splits.train.class_names().len()), (vec![Some(77), Some(5)], 100));
    assert_eq!(labels(&*opened(&hundred.path().join("train.bin")).train), [Some(77), Some(5)]);
    fs::write(hundred.path().join("train.bin"), [0; 5000]).unwrap();
    assert!(refused(hundred.path()).ends_with("expected a multiple of 3074 bytes, got 5000 (truncated, or no CIFAR file)"));
    fs::write(hundred.path().join("train.bin"), cifar_record(&[1, 200])).unwrap();
    assert!(refused(hundred.path()).ends_with("expected labels below 100, got 200"));
}

#[test]
fn a_test_source_is_matched_by_class_names() {
    let train = opened(folder(&[("a/1.png", "rgb.png"), ("b/1.png", "rgb.png")]).path());
    let test = opened(folder(&[("b/1.png", "rgb.png"), ("c/1.png", "rgb.png")]).path());
    let both = train.clone().with_test(test).unwrap();
    assert_eq!(labels(&*both.test.unwrap()), [Some(1), None]);
    let stranger = opened(folder(&[("x/1.png", "rgb.png"), ("y/1.png", "rgb.png")]).path());
    assert!(train.with_test(stranger).err().unwrap().to_string().contains("expected classes of"));
}

#[test]
fn a_subset_keeps_names_labels_and_pictures_together() {
    let all = open("sample", &OpenConfig::default()).unwrap().train;
    let subset = Subset::new(all.clone(), vec![5, 2]).unwrap();
    assert_eq!((subset.label(0), subset.name(1)), (all.label(5), all.name(2)));
    assert_eq!(subset.picture(1).unwrap(), all.picture(2).unwrap());
    assert_eq!(Subset::new(all, vec![9000]).err().unwrap().to_string(), "subset index must be below 9000, got 9000");
}

#[test]
fn normalization_is_the_mean_and_deviation_of_the_pixels() {
    let pixels = vec![0, 51, 255, 255, 51, 0];
    let array = data::array::Array { width: 2, height: 1, channels: 3, pixels, labels: vec![], class_names: vec![] };
    let measured = la_core::preprocess::Normalization::of(&array).unwrap();
    assert_eq!(measured.mean, [0.5, 0.2, 0.5]);
    assert_eq!(measured.std, [0.5, 0.01, 0.5]); // a constant channel is not blown up
}

#[test]
fn an_unknown_hub_name_is_refused_before_any_connection() {
    for name in ["hf:", "hf:owner", "hf:/name", "hf:owner/", "hf:../x", "hf:owner/n%me", "hf:owner/name/../..", "hf:owner/name:../test"] {
        let err = open(name, &OpenConfig::default()).err().unwrap().to_string();
        assert!(err.contains("expected hf:owner/name, hf:owner/name/configuration or either with :split"), "{err}");
    }
    assert!(open("", &OpenConfig::default()).is_err());
    assert!(open("sample", &OpenConfig { size: 0, ..OpenConfig::default() }).is_err());
}

#[test]
fn a_source_can_be_shared_by_threads() {
    let source: Arc<dyn Source> = open("sample", &OpenConfig::default()).unwrap().train;
    let threads: Vec<_> =
        (0..2).map(|i| (i, source.clone())).map(|(i, s)| std::thread::spawn(move || s.picture(i).unwrap().into_owned())).collect();
    for (i, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), *source.picture(i).unwrap());
    }
}
