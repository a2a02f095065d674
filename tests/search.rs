//! Search over a stored bank: against every score, on the values as stored, and on bytes that are no bank.

use candle_core::Device;
use la_core::preprocess::{Normalization, Preprocessing};
use la_core::resnet::{encode, Arch, Encoder, ResNet, ResNetConfig, Stem};
use la_core::search::{
    clusters, vote, BankEntry, BankReader, FileEntry, LabelsEntry, Manifest, MapEntry, ModelEntry, Neighbor, Precision, SearchBank,
    ThumbnailsEntry, FORMAT, VERSION,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::OnceLock;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::F16, Precision::I8];

/// Numbers in -1 to 1 from a linear congruence.
fn numbers(n: usize, mut seed: u64) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn entry(rows: usize, dim: usize, precision: Precision) -> BankEntry {
    let file = FileEntry { path: "bank.bin".into(), bytes: precision.bank_bytes(rows, dim), sha256: "0".repeat(64) };
    BankEntry { rows, dim, precision, made: String::new(), file }
}

fn brute_force(bank: &SearchBank, query: &[f32], k: usize) -> Vec<Neighbor> {
    let score = |row| bank.row(row).unwrap().iter().zip(query).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32;
    let mut all: Vec<_> = (0..bank.len()).map(|row| Neighbor { row: row as u32, score: score(row) }).collect();
    all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
    all.truncate(k);
    all
}

#[test]
fn search_finds_what_scoring_every_row_finds() {
    for precision in PRECISIONS {
        for (rows, dim, k) in [(1, 1, 1), (5000, 37, 10), (3000, 16, 700), (2000, 128, 1), (30_000, 160, 10), (70_000, 32, 40_000)] {
            let bank = SearchBank::from_rows(&numbers(rows * dim, 1), dim, precision).unwrap();
            let query = numbers(dim, 2);
            assert_eq!(bank.search(&query, k).unwrap(), brute_force(&bank, &query, k), "{precision} {rows} {dim} {k}");
        }
    }
}

#[test]
fn very_large_and_very_small_values_are_ordered_too() {
    for scale in [1e-20, 1e-3, 1e5] {
        let rows: Vec<f32> = numbers(900 * 8, 5).into_iter().map(|x| x * scale).collect();
        let bank = SearchBank::from_rows(&rows, 8, Precision::F32).unwrap();
        for scale in [1e-19, 1.0, 1e6] {
            let query: Vec<f32> = numbers(8, 6).into_iter().map(|x| x * scale).collect();
            assert_eq!(bank.search(&query, 9).unwrap(), brute_force(&bank, &query, 9), "{scale}");
        }
        assert!(bank.search(&[f32::MAX; 8], 1).is_err());
    }
}

#[test]
fn equal_scores_go_to_the_lower_row_and_k_beyond_the_rows_gives_all() {
    for precision in PRECISIONS {
        let bank = SearchBank::from_rows(&[0.6, 0.8].repeat(2000), 2, precision).unwrap();
        let rows = |k| bank.search(&[1.0, 0.0], k).unwrap().iter().map(|n| n.row).collect::<Vec<_>>();
        assert_eq!(rows(3), [0, 1, 2]);
        assert_eq!(rows(9999), (0..2000).collect::<Vec<_>>());
        assert!(rows(0).is_empty());
    }
}

#[test]
fn a_bank_read_back_has_the_same_rows_and_takes_another() {
    for precision in PRECISIONS {
        let bank = SearchBank::from_rows(&numbers(50 * 7, 3), 7, precision).unwrap();
        let mut again = SearchBank::read(&entry(50, 7, precision), &bank.to_bytes()).unwrap();
        (0..50).for_each(|row| assert_eq!(again.row(row).unwrap(), bank.row(row).unwrap()));
        let new = [0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(again.push(&new).unwrap(), 50);
        assert_eq!(again.search(&new, 1).unwrap()[0].row, 50);
    }
}

#[test]
fn a_bank_that_comes_in_portions_is_the_one_read_at_once() {
    for precision in PRECISIONS {
        let (rows, dim, entry) = (500, 37, entry(500, 37, precision));
        let bytes = SearchBank::from_rows(&numbers(rows * dim, 3), dim, precision).unwrap().to_bytes();
        let (once, query) = (SearchBank::read(&entry, &bytes).unwrap(), numbers(dim, 4));
        for portion in [1, 7, 1000, bytes.len()] {
            let mut reader = BankReader::new(entry.clone());
            assert!(reader.bank().is_none());
            let row = precision.bank_bytes(1, dim);
            for (i, bytes) in bytes.chunks(portion).enumerate() {
                reader.take(bytes).unwrap();
                // Rows can be asked for once they have come; those of i8 come with the end of the file.
                let come = (i * portion + bytes.len()) / row;
                if precision != Precision::I8 {
                    assert_eq!(reader.bank().unwrap().len(), come);
                    (0..come).step_by(97).for_each(|at| assert_eq!(reader.bank().unwrap().row(at).unwrap(), once.row(at).unwrap()));
                }
            }
            let bank = reader.finish().unwrap();
            assert_eq!((bank.to_bytes(), bank.search(&query, 9).unwrap()), (bytes.clone(), once.search(&query, 9).unwrap()));
        }
    }
}

#[test]
fn a_bank_that_does_not_come_whole_or_is_none_is_refused() {
    for precision in PRECISIONS {
        let bytes = SearchBank::from_rows(&numbers(4 * 3, 4), 3, precision).unwrap().to_bytes();
        for cut in 0..bytes.len() {
            let mut reader = BankReader::new(entry(4, 3, precision));
            reader.take(&bytes[..cut]).unwrap();
            assert!(reader.finish().is_err(), "{precision}: {cut} of {} bytes", bytes.len());
        }
        let mut reader = BankReader::new(entry(4, 3, precision));
        reader.take(&bytes).unwrap();
        assert!(reader.take(&[0]).is_err());
    }
    for (precision, value) in
        [(Precision::F32, f32::NAN.to_le_bytes().to_vec()), (Precision::F16, vec![0, 0x7c]), (Precision::F16, vec![1, 0xfe])]
    {
        let (shown, mut reader) = (format!("{value:?}"), BankReader::new(entry(4, 3, precision)));
        assert!(reader.take(&value.repeat(12)).is_err(), "{precision} {shown}");
    }
}

#[test]
fn halves_are_read_as_they_are() {
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).filter(|half| half.is_finite()).collect();
    let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let bank = SearchBank::read(&entry(halves.len() / 8, 8, Precision::F16), &bytes).unwrap();
    let (query, k) = (numbers(8, 6), 20);
    assert_eq!(bank.search(&query, k).unwrap(), brute_force(&bank, &query, k));
}

#[test]
fn what_is_no_bank_query_or_row_is_refused() {
    for precision in PRECISIONS {
        let mut bank = SearchBank::from_rows(&numbers(4 * 3, 4), 3, precision).unwrap();
        let bytes = bank.to_bytes();
        (0..bytes.len()).for_each(|n| assert!(SearchBank::read(&entry(4, 3, precision), &bytes[..n]).is_err()));
        assert!(bank.search(&[1.0, f32::NAN, 0.0], 1).is_err() && bank.search(&[1.0], 1).is_err());
        assert!(bank.push(&[f32::INFINITY, 0.0, 0.0]).is_err() && bank.push(&[1.0; 4]).is_err() && bank.row(4).is_err());
        assert_eq!(bank.len(), 4);
        assert!(SearchBank::from_rows(&[1.0; 5], 3, precision).is_err() && SearchBank::from_rows(&[], 0, precision).is_err());
    }
}

#[test]
fn clusters_are_the_clouds_of_a_bank_the_largest_first_and_the_middle_of_each_first() {
    // Three far directions, around each of them rows ever farther off; then more rows than k-means looks at.
    for sizes in [[900, 600, 300], [9000, 6000, 3000]] {
        let mut rows = Vec::new();
        for (cloud, &size) in sizes.iter().enumerate() {
            for i in 0..size {
                let (angle, turn) = (0.3 * i as f32 / size as f32, 2.4 * i as f32);
                let mut row = [0.0; 6];
                row[cloud] = angle.cos();
                (row[3 + cloud % 3], row[3 + (cloud + 1) % 3]) = (angle.sin() * turn.cos(), angle.sin() * turn.sin());
                rows.extend(row);
            }
        }
        let cloud_of = |row: u32| (0..3).find(|&cloud| (row as usize) < sizes[..=cloud].iter().sum()).unwrap();
        let bank = SearchBank::from_rows(&rows, 6, Precision::F32).unwrap();
        let found = clusters(&bank).unwrap();
        assert_eq!(found.len(), if sizes[0] == 900 { 14 } else { 40 });
        assert!(found.windows(2).all(|pair| pair[0].len() >= pair[1].len()));
        let mut all: Vec<u32> = found.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..sizes.iter().sum::<usize>() as u32), "every row is in one cluster");
        for rows in &found {
            assert!(rows.iter().all(|&row| cloud_of(row) == cloud_of(rows[0])), "a cluster holds two clouds");
            // The first is nearer to the mean of its cluster than the last.
            let mean: Vec<f32> = (0..6).map(|at| rows.iter().map(|&row| bank.row(row as usize).unwrap()[at]).sum::<f32>()).collect();
            let score = |row: u32| bank.row(row as usize).unwrap().iter().zip(&mean).map(|(a, b)| a * b).sum::<f32>();
            assert!(rows.len() == 1 || score(rows[0]) >= score(rows[rows.len() - 1]));
        }
    }
    assert_eq!(clusters(&SearchBank::from_rows(&[1.0, 0.0], 2, Precision::F16).unwrap()).unwrap(), [[0]]);
}

#[test]
fn shares_of_a_vote_sum_to_one_and_weigh_nearer_rows_more() {
    let neighbors = [Neighbor { row: 0, score: 1.0 }, Neighbor { row: 1, score: 0.93 }, Neighbor { row: 2, score: 0.9 }];
    let shares = vote(&neighbors, &[1, 0, u32::MAX], 2, 0.07);
    let e = 1f32.exp();
    assert!((shares[1] - e / (e + 1.0)).abs() < 1e-5 && (shares[0] + shares[1] - 1.0).abs() < 1e-6, "{shares:?}");
}

fn valid_manifest() -> Manifest {
    let file = |path: &str, bytes| FileEntry { path: path.into(), bytes, sha256: "0".repeat(64) };
    Manifest {
        format: FORMAT.into(),
        version: VERSION,
        created_by: "a test".into(),
        title: "rows".into(),
        model: ModelEntry { config: tiny(), precision: Precision::F32, readout_dim: None, file: file("model.safetensors", 9) },
        preprocessing: Preprocessing::of(8, 0.875, Normalization { mean: [0.5; 3], std: [0.25; 3] }),
        bank: entry(5, 4, Precision::F16),
        labels: Some(LabelsEntry { classes: vec!["a".into(), "b".into()], file: file("labels.bin", 20) }),
        names: file("names.txt", 10),
        thumbnails: Some(ThumbnailsEntry { size: 8, columns: 2, per_sheet: 4, sheets: vec![file("t0.jpg", 1), file("t1.jpg", 1)] }),
        map: Some(MapEntry { method: "umap".into(), file: file("map.bin", 40) }),
    }
}

fn tiny() -> ResNetConfig {
    ResNetConfig { arch: Arch::Resnet18, stem: Stem::Small, width: 1, embedding_dim: 4 }
}

fn valid_weights(precision: Precision) -> &'static [u8] {
    static WEIGHTS: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    let all = WEIGHTS.get_or_init(|| {
        let tensors = ResNet::new(&tiny(), 0, &Device::Cpu).unwrap().tensors().unwrap();
        PRECISIONS.map(|precision| encode(&tensors, precision).unwrap())
    });
    &all[PRECISIONS.iter().position(|&p| p == precision).unwrap()]
}

/// The most that reading valid weights holds, at any precision.
fn valid_weights_take() -> usize {
    static TAKEN: OnceLock<usize> = OnceLock::new();
    *TAKEN.get_or_init(|| {
        PRECISIONS.map(|precision| held(|| Encoder::read(&tiny(), valid_weights(precision))).1).into_iter().max().unwrap_or(0)
    })
}

/// Puts a token that reads as another number, string or structure at each place.
fn mutate(bytes: &mut Vec<u8>, changes: &[(usize, usize)]) {
    const TOKENS: [&[u8]; 14] =
        [b"0", b"-1", b"4294967296", b"18446744073709551615", b"1e308", b"null", b"\"", b"..", b"/", b"{", b"]", b"\xff", b"i8", b""];
    for &(at, token) in changes {
        let at = at % bytes.len();
        let end = (at + 1 + token / TOKENS.len() % 4).min(bytes.len());
        bytes.splice(at..end, TOKENS[token % TOKENS.len()].iter().copied());
    }
}

#[test]
fn a_valid_manifest_and_valid_weights_are_read() {
    let manifest = valid_manifest();
    assert_eq!(Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap(), manifest);
    PRECISIONS.iter().for_each(|&precision| assert!(Encoder::read(&tiny(), valid_weights(precision)).is_ok()));
}

/// How many mutated inputs to try.
fn fuzz_cases() -> u32 {
    std::env::var("LA_FUZZ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

/// Counts what this thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    let add = |held: &Cell<(isize, isize)>| {
        let (now, most) = held.get();
        held.set((now + change, most.max(now + change)));
    };
    // A thread that ends has nothing to count with.
    let _ = HELD.try_with(add);
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` gives, and the bytes that it held at once.
fn held<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let start = HELD.get().0;
    HELD.set((start, start));
    let result = work();
    (result, (HELD.get().1 - start) as usize)
}

/// What a reader may hold besides what grows with its file.
const SLACK: usize = 1 << 16;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: fuzz_cases(), failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_manifest_or_bank_makes_reading_panic(
        changes in proptest::collection::vec((0usize..100_000, 0usize..100), 1..4),
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..256),
        rows in 0usize..9, dim in 0usize..9, precision in 0usize..3,
    ) {
        let mut json = serde_json::to_vec(&valid_manifest()).unwrap();
        mutate(&mut json, &changes);
        let (manifest, most) = held(|| Manifest::parse(&json));
        proptest::prop_assert!(most <= 8 * json.len() + SLACK, "{} bytes of manifest took {}", json.len(), most);
        if let Ok(manifest) = manifest {
            // However large its numbers are, a file of another length is refused before memory is taken for it.
            let (bank, most) = held(|| SearchBank::read(&manifest.bank, &bytes));
            proptest::prop_assert!(bank.is_err() || bytes.len() == manifest.bank.num_bytes());
            proptest::prop_assert!(most <= SLACK, "{} bytes of bank took {}", bytes.len(), most);
        }
        let entry = entry(rows, dim, PRECISIONS[precision]);
        let _ = SearchBank::read(&entry, &bytes);
        let fitting: Vec<u8> = bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { entry.num_bytes() }).collect();
        if let Ok(bank) = SearchBank::read(&entry, &fitting) {
            proptest::prop_assert_eq!(bank.search(&vec![1.0; dim], 3).unwrap().len(), rows.min(3));
        }
    }

    #[test]
    fn no_weights_make_reading_panic(
        changes in proptest::collection::vec((0usize..100_000, 0usize..100), 1..4), cut in 0usize..100_000, precision in 0usize..3,
    ) {
        let mut file = valid_weights(PRECISIONS[precision]).to_vec();
        mutate(&mut file, &changes);
        file.truncate(file.len().saturating_sub(cut / 50_000 * (cut % 50_000)));
        let (encoder, most) = held(|| Encoder::read(&tiny(), &file));
        proptest::prop_assert!(most <= valid_weights_take() + SLACK, "{} bytes of weights took {}", file.len(), most);
        if let Ok(encoder) = encoder {
            proptest::prop_assert_eq!(encoder.embed(&[0.5; 8 * 8 * 3], 1, 8, 8).unwrap().len(), 4);
        }
    }
}
