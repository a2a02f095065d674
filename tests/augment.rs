//! Augmentation against torchvision's values (fixtures/data/make.py), a brute-force oracle and hand calculations.

use candle_core::{safetensors::load, Device, Tensor};
use la_core::augment::{augment, center, random_crop, AugmentConfig, CropBox};
use la_core::data::Picture;
use la_core::ops::color::{self, Adjust, ColorPlan};
use la_core::preprocess::Preprocessing;
use la_core::rng::{Rng, Stream};
use std::collections::HashMap;

fn fixture() -> HashMap<String, Tensor> {
    load(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/data/torchvision.safetensors"), &Device::Cpu).unwrap()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn picture(values: &HashMap<String, Tensor>) -> Picture {
    let (height, width, _) = values["picture"].dims3().unwrap();
    Picture::new(width, height, bytes(&values["picture"])).unwrap()
}

fn rng(key: u64) -> Rng {
    Rng::new(Stream::Augment, &[key])
}

/// A config that crops everything and changes nothing.
fn untouched() -> AugmentConfig {
    AugmentConfig {
        crop_min_area: 1.0,
        crop_max_area: 1.0,
        gray_probability: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        hue: 0.0,
        flip_probability: 0.0,
    }
}

fn max_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn noise_picture(width: usize, height: usize, key: u64) -> Picture {
    let mut rng = rng(key);
    Picture::new(width, height, (0..width * height * 3).map(|_| rng.below(256) as u8).collect()).unwrap()
}

#[test]
fn the_center_crop_is_torchvisions() {
    let values = fixture();
    let picture = picture(&values);
    let mut tall = vec![];
    for x in 0..picture.width {
        for y in 0..picture.height {
            tall.extend_from_slice(&picture.pixels[(y * picture.width + x) * 3..][..3]);
        }
    }
    let tall = Picture::new(picture.height, picture.width, tall).unwrap();
    for (size, shorter) in [(32usize, 32), (32, 37), (24, 27), (96, 110)] {
        for (picture, name) in [(&picture, "center"), (&tall, "center_tall")] {
            let mut ours = vec![0.0; size * size * 3];
            center(picture, &Preprocessing { crop_fraction: size as f64 / shorter as f64, ..Preprocessing::plain(size) }, &mut ours)
                .unwrap();
            let theirs: Vec<f32> = bytes(&values[&format!("{name}_{size}_{shorter}")]).iter().map(|&x| f32::from(x) / 255.0).collect();
            // Both round to bytes between the two passes and after them.
            let worst = max_difference(&ours, &theirs) * 255.0;
            assert!(worst < 1.5, "{name} {size} of {shorter}: {worst} of 255");
        }
    }
}

#[test]
fn a_crop_resized_is_torchvisions_resized_crop() {
    let values = fixture();
    let picture = picture(&values);
    let boxes: Vec<Vec<i64>> = values["boxes"].to_vec2().unwrap();
    let mut compared = 0;
    for (i, b) in boxes.iter().enumerate() {
        let [top, left, height, width] = b[..] else { panic!("four numbers") };
        // Cutting the box out and viewing it whole is the same as cropping it.
        let rows = (top..top + height).flat_map(|y| {
            let start = ((y * picture.width as i64 + left) * 3) as usize;
            picture.pixels[start..start + width as usize * 3].to_vec()
        });
        let cut = Picture::new(width as usize, height as usize, rows.collect()).unwrap();
        let mut ours = vec![0.0; 32 * 32 * 3];
        // A crop of the whole is only drawn where its ratio is an allowed one.
        let whole = random_crop(cut.width, cut.height, &untouched(), &mut rng(0));
        if (whole.width, whole.height) != (cut.width, cut.height) {
            continue;
        }
        augment(&cut, &untouched(), &Preprocessing::plain(32), &mut rng(0), &mut ours).unwrap();
        let theirs: Vec<f32> = bytes(&values[&format!("crop_{i}")]).iter().map(|&x| f32::from(x) / 255.0).collect();
        let worst = max_difference(&ours, &theirs) * 255.0;
        assert!(worst < 1.5, "box {b:?}: {worst} of 255");
        compared += 1;
    }
    assert_eq!(compared, 3);
}

#[test]
fn colors_change_as_in_torchvision() {
    let values = fixture();
    let picture = picture(&values);
    use Adjust::*;
    let cases: [(&str, Vec<Adjust>); 7] = [
        ("brightness", vec![Brightness(1.37)]),
        ("contrast", vec![Contrast(0.63)]),
        ("saturation", vec![Saturation(1.4)]),
        ("hue", vec![Hue(0.31)]),
        ("hue_back", vec![Hue(-0.4)]),
        ("all", vec![Hue(-0.27), Brightness(1.3), Contrast(1.38), Saturation(0.7)]),
        ("contrast_first", vec![Contrast(0.6), Saturation(1.35), Brightness(0.8), Hue(0.13)]),
    ];
    for (name, adjust) in cases {
        let mut ours = vec![0.0; picture.pixels.len()];
        color::apply(&picture.pixels, picture.width, &ColorPlan { adjust, ..ColorPlan::identity() }, &mut ours);
        let theirs: Vec<f32> = values[&format!("color_{name}")].flatten_all().unwrap().to_vec1().unwrap();
        // torchvision weighs red by 0.2989 where Pillow and the standard say 0.299; hue then divides by the chroma.
        let worst = max_difference(&ours, &theirs);
        assert!(worst < 5e-4, "{name}: {worst}");
    }
    let mut ours = vec![0.0; picture.pixels.len()];
    color::apply(&picture.pixels, picture.width, &ColorPlan { gray: true, ..ColorPlan::identity() }, &mut ours);
    let theirs: Vec<f32> = values["color_gray"].flatten_all().unwrap().to_vec1().unwrap();
    assert!(max_difference(&ours, &theirs) < 2e-4);
}

/// The textbook's HSV and one pixel at a time, in f64.
fn oracle(pixels: &[u8], width: usize, plan: &ColorPlan) -> Vec<f32> {
    let mut image: Vec<[f64; 3]> = pixels.chunks(3).map(|p| [0, 1, 2].map(|c| f64::from(p[c]) / 255.0)).collect();
    let luma = |p: &[f64; 3]| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
    if plan.gray {
        image.iter_mut().for_each(|p| *p = [luma(p); 3]);
    }
    for change in &plan.adjust {
        let mean = image.iter().map(luma).sum::<f64>() / image.len() as f64;
        for p in &mut image {
            let gray = luma(p);
            let mix = |f: f32, base: f64| p.map(|x| (f64::from(f) * x + (1.0 - f64::from(f)) * base).clamp(0.0, 1.0));
            *p = match *change {
                Adjust::Brightness(f) => mix(f, 0.0),
                Adjust::Contrast(f) => mix(f, mean),
                Adjust::Saturation(f) => mix(f, gray),
                Adjust::Hue(f) => turned(p, f64::from(f)),
            };
        }
    }
    let height = image.len() / width;
    let at = |y: usize, x: usize| image[y * width + if plan.flip { width - 1 - x } else { x }];
    let value = |y, x, c: usize| (at(y, x)[c] * f64::from(plan.scale[c]) + f64::from(plan.shift[c])) as f32;
    (0..height * width * 3).map(|i| value(i / 3 / width, i / 3 % width, i % 3)).collect()
}

fn turned(&[r, g, b]: &[f64; 3], turn: f64) -> [f64; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = max - min;
    if chroma == 0.0 {
        return [r, g, b];
    }
    let sixth = match () {
        _ if max == r => ((g - b) / chroma).rem_euclid(6.0),
        _ if max == g => (b - r) / chroma + 2.0,
        _ => (r - g) / chroma + 4.0,
    };
    let h = (sixth / 6.0 + turn).rem_euclid(1.0) * 6.0;
    let x = chroma * (1.0 - (h % 2.0 - 1.0).abs());
    let (r, g, b) =
        [(chroma, x, 0.0), (x, chroma, 0.0), (0.0, chroma, x), (0.0, x, chroma), (x, 0.0, chroma), (chroma, 0.0, x)][h as usize % 6];
    [r + min, g + min, b + min]
}

#[test]
fn colors_equal_a_pixel_by_pixel_oracle() {
    for key in 0..40u64 {
        let mut rng = rng(1000 + key);
        let mut adjust = vec![
            Adjust::Brightness(rng.uniform_in(0.5, 1.5)),
            Adjust::Contrast(rng.uniform_in(0.5, 1.5)),
            Adjust::Saturation(rng.uniform_in(0.5, 1.5)),
            Adjust::Hue(rng.uniform_in(-0.5, 0.5)),
        ];
        rng.shuffle(&mut adjust);
        adjust.truncate(1 + rng.below(4));
        let plan = ColorPlan { gray: key % 5 == 0, adjust, flip: key % 2 == 0, scale: [1.0, 2.0, 0.5], shift: [0.0, -0.3, 0.25] };
        let width = 1 + rng.below(40);
        let mut picture = noise_picture(width, 7, key);
        if key % 3 == 0 {
            picture.pixels.chunks_exact_mut(3).for_each(|p| p.fill(p[0])); // the fast path for gray pictures
        }
        let mut ours = vec![0.0; picture.pixels.len()];
        color::apply(&picture.pixels, width, &plan, &mut ours);
        let worst = max_difference(&ours, &oracle(&picture.pixels, width, &plan));
        assert!(worst < 5e-6, "{plan:?} width {width}: {worst}");
    }
}

#[test]
fn by_hand_a_red_pixel_turned_a_third_is_green() {
    let mut out = [0.0; 3];
    color::apply(&[255, 0, 0], 1, &ColorPlan { adjust: vec![Adjust::Hue(1.0 / 3.0)], ..ColorPlan::identity() }, &mut out);
    assert!(max_difference(&out, &[0.0, 1.0, 0.0]) < 1e-6, "{out:?}");
    // Luma of pure red is 0.299: half the saturation mixes it in equal parts.
    color::apply(&[255, 0, 0], 1, &ColorPlan { adjust: vec![Adjust::Saturation(0.5)], ..ColorPlan::identity() }, &mut out);
    assert!(max_difference(&out, &[0.6495, 0.1495, 0.1495]) < 1e-6, "{out:?}");
    // Two pixels, 0 and 1: their mean is a half, and no contrast leaves it alone.
    let mut out = [9.0; 6];
    color::apply(&[0, 0, 0, 255, 255, 255], 2, &ColorPlan { adjust: vec![Adjust::Contrast(0.0)], ..ColorPlan::identity() }, &mut out);
    assert_eq!(out, [0.5; 6]);
}

#[test]
fn the_flip_mirrors_rows_and_nothing_else() {
    let picture = noise_picture(20, 20, 3);
    let (mut plain, mut flipped) = (vec![0.0; 1200], vec![0.0; 1200]);
    augment(&picture, &untouched(), &Preprocessing::plain(20), &mut rng(1), &mut plain).unwrap();
    augment(&picture, &AugmentConfig { flip_probability: 1.0, ..untouched() }, &Preprocessing::plain(20), &mut rng(1), &mut flipped)
        .unwrap();
    for (plain, flipped) in plain.chunks(60).zip(flipped.chunks(60)) {
        let mirrored: Vec<f32> = plain.chunks(3).rev().flatten().copied().collect();
        assert_eq!(mirrored, flipped);
    }
    let bytes: Vec<f32> = picture.pixels.iter().map(|&x| f32::from(x) / 255.0).collect();
    assert_eq!(plain, bytes);
}

#[test]
fn crops_stay_inside_with_areas_and_ratios_as_published() {
    let config = AugmentConfig::default();
    let (mut smallest, mut largest, mut log_ratios) = (1.0f64, 0.0f64, 0.0);
    let n = 20_000;
    for key in 0..n {
        let CropBox { left, top, width, height } = random_crop(300, 200, &config, &mut rng(key));
        assert!(left + width <= 300 && top + height <= 200 && width > 0 && height > 0);
        let area = (width * height) as f64 / 60_000.0;
        (smallest, largest) = (smallest.min(area), largest.max(area));
        let ratio = width as f64 / height as f64;
        assert!((0.72..=1.39).contains(&ratio), "{ratio}");
        log_ratios += ratio.ln();
    }
    assert!(smallest > 0.19 && smallest < 0.22, "{smallest}");
    // The largest part with a ratio of at most 4/3 covers 8/9 of a picture of 3/2.
    assert!(largest > 0.86 && largest <= 0.9, "{largest}");
    // Large crops of a wide picture fit better when they are wide.
    assert!(log_ratios / n as f64 > 0.0);
}

#[test]
fn a_picture_too_narrow_for_any_ratio_is_cut_in_the_middle() {
    let whole = AugmentConfig { crop_min_area: 1.0, ..AugmentConfig::default() };
    // As torchvision: height = 30 / (3/4) = 40 of 100 rows, from row 30 on.
    assert_eq!(random_crop(30, 100, &whole, &mut rng(0)), CropBox { left: 0, top: 30, width: 30, height: 40 });
    assert_eq!(random_crop(100, 30, &whole, &mut rng(0)), CropBox { left: 30, top: 0, width: 40, height: 30 });
    assert_eq!(random_crop(1, 1, &whole, &mut rng(0)), CropBox { left: 0, top: 0, width: 1, height: 1 });
}

#[test]
fn a_fifth_of_the_views_are_gray_and_half_are_flipped() {
    let picture = noise_picture(8, 8, 5);
    let config = AugmentConfig { gray_probability: 0.2, flip_probability: 0.5, ..untouched() };
    let mut plain = vec![0.0; 192];
    augment(&picture, &untouched(), &Preprocessing::plain(8), &mut rng(0), &mut plain).unwrap();
    let (mut gray, mut flipped) = (0, 0);
    for key in 0..4000 {
        let mut out = vec![0.0; 192];
        augment(&picture, &config, &Preprocessing::plain(8), &mut rng(key), &mut out).unwrap();
        if out.chunks(3).all(|p| p[0] == p[1] && p[1] == p[2]) {
            gray += 1;
        } else if out != plain {
            flipped += 1;
        }
    }
    assert!((720..880).contains(&gray), "{gray} of 4000");
    assert!((1450..1750).contains(&flipped), "{flipped} of about 3200");
}

#[test]
fn a_view_depends_on_its_key_alone() {
    let picture = noise_picture(50, 40, 9);
    let view = |key| {
        let mut out = vec![0.0; 32 * 32 * 3];
        augment(&picture, &AugmentConfig::default(), &Preprocessing::plain(32), &mut rng(key), &mut out).unwrap();
        out
    };
    assert_eq!(view(1), view(1));
    assert_ne!(view(1), view(2));
}

#[test]
fn one_pixel_fills_the_view() {
    let picture = Picture::new(1, 1, vec![255, 0, 51]).unwrap();
    let mut out = vec![0.0; 5 * 5 * 3];
    augment(&picture, &untouched(), &Preprocessing::plain(5), &mut rng(0), &mut out).unwrap();
    assert!(out.chunks(3).all(|p| max_difference(p, &[1.0, 0.0, 0.2]) < 1e-6));
    center(&picture, &Preprocessing { crop_fraction: 0.875, ..Preprocessing::plain(5) }, &mut out).unwrap();
    assert!(out.chunks(3).all(|p| max_difference(p, &[1.0, 0.0, 0.2]) < 1e-6));
}

#[test]
fn settings_out_of_range_are_named() {
    let default = AugmentConfig::default();
    let cases = [
        (AugmentConfig { hue: 0.6, ..default }, "hue must be in [0, 0.5], got 0.6"),
        (AugmentConfig { gray_probability: 1.5, ..default }, "gray_probability must be in [0, 1], got 1.5"),
        (AugmentConfig { contrast: -1.0, ..default }, "contrast must be at least 0, got -1"),
        (AugmentConfig { crop_min_area: 0.0, ..default }, "crop areas must be 0 < min <= max <= 1, got 0 and 1"),
        (AugmentConfig { crop_min_area: 0.9, crop_max_area: 0.5, ..default }, "crop areas must be 0 < min <= max <= 1, got 0.9 and 0.5"),
    ];
    for (config, message) in cases {
        assert_eq!(config.check().unwrap_err().to_string(), message);
    }
    assert!(default.check().is_ok());
}

#[test]
fn a_buffer_of_the_wrong_size_is_refused() {
    let picture = noise_picture(4, 4, 0);
    let err = augment(&picture, &untouched(), &Preprocessing::plain(8), &mut rng(0), &mut [0.0; 10]).unwrap_err().to_string();
    assert_eq!(err, "expected a buffer of 192 values for a view of 8 pixels, got 10");
    let err = center(&picture, &Preprocessing { crop_fraction: 1.5, ..Preprocessing::plain(2) }, &mut [0.0; 12]).unwrap_err().to_string();
    assert_eq!(err, "preprocessing: crop_fraction must be in (0, 1], got 1.5");
}
