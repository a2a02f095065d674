//! Near-duplicates: which pairs are found, and that groups are those of complete linkage.

mod support;

use candle_core::Tensor;
use la_cli::measures::duplicates::{nearby, Group, Linkage, Nearby, Pair};
use support::clouds::{on_threads, tensor, unit_rows};

fn dot(rows: &[f32], dim: usize, a: usize, b: usize) -> f32 {
    (0..dim).map(|i| rows[a * dim + i] * rows[b * dim + i]).sum()
}

fn look(rows: &Tensor, floor: f32) -> Nearby {
    nearby(rows, floor, 5, &mut |_| ()).unwrap()
}

/// The groups by the definition: again and again the two clusters whose least alike rows are most alike.
fn by_definition(rows: &[f32], dim: usize, threshold: f32) -> Vec<Vec<u32>> {
    let mut clusters: Vec<Vec<u32>> = (0..(rows.len() / dim) as u32).map(|row| vec![row]).collect();
    let least = |x: &[u32], y: &[u32]| {
        let pairs = x.iter().flat_map(|&a| y.iter().map(move |&b| (a, b)));
        pairs.map(|(a, b)| dot(rows, dim, a as usize, b as usize)).fold(f32::INFINITY, f32::min)
    };
    loop {
        let pairs = (0..clusters.len()).flat_map(|x| (x + 1..clusters.len()).map(move |y| (x, y)));
        let best = pairs.map(|(x, y)| (least(&clusters[x], &clusters[y]), x, y)).max_by(|p, q| p.0.total_cmp(&q.0));
        match best {
            Some((similarity, x, y)) if similarity >= threshold => {
                let second = clusters.remove(y);
                clusters[x].extend(second);
            }
            _ => break,
        }
    }
    let mut groups: Vec<Vec<u32>> = clusters.into_iter().filter(|cluster| cluster.len() > 1).collect();
    groups.iter_mut().for_each(|group| group.sort());
    groups.sort();
    groups
}

#[test]
fn every_pair_within_the_floor_is_found_with_its_similarity() {
    let (dim, floor) = (24, 0.8);
    // 60 of one group: more than are looked at first.
    let rows = unit_rows(300, dim, 5, 0.4, 1);
    let found = look(&tensor(rows.clone(), dim), floor);
    assert_eq!(found.complete_from, floor);
    let expected: Vec<(u32, u32)> = (0..300u32)
        .flat_map(|a| (a + 1..300).map(move |b| (a, b)))
        .filter(|&(a, b)| dot(&rows, dim, a as usize, b as usize) >= floor)
        .collect();
    assert!(expected.len() > 1000, "{}", expected.len());
    assert_eq!(found.pairs.iter().map(|pair| (pair.a, pair.b)).collect::<Vec<_>>(), expected);
    assert!(found.pairs.iter().all(|pair| (pair.similarity - dot(&rows, dim, pair.a as usize, pair.b as usize)).abs() < 1e-5));
    for row in [0, 7, 299] {
        let mut others: Vec<f32> = (0..300).filter(|&other| other != row).map(|other| dot(&rows, dim, row, other)).collect();
        others.sort_by(|a, b| b.total_cmp(a));
        assert!((found.mean_nearest[row] - others[..5].iter().sum::<f32>() / 5.0).abs() < 1e-5);
    }
}

#[test]
fn groups_are_those_of_the_definition_at_every_threshold() {
    for (spread, seed) in [(0.2, 2), (0.5, 3), (0.9, 4)] {
        let dim = 8;
        let rows = unit_rows(70, dim, 12, spread, seed);
        let found = look(&tensor(rows.clone(), dim), 0.0);
        let linkage = Linkage::complete(70, &found.pairs).unwrap();
        for threshold in [0.3, 0.6, 0.8, 0.9, 0.97] {
            let mut groups: Vec<Vec<u32>> = linkage.groups(threshold).into_iter().map(|group| group.rows).collect();
            groups.sort();
            assert_eq!(groups, by_definition(&rows, dim, threshold), "spread {spread}, threshold {threshold}");
        }
    }
}

#[test]
fn no_group_is_chained_together() {
    // A ring of directions, each 0.95 like the next: single linkage would make one group of all.
    let rows: Vec<f32> = (0..20).flat_map(|i| [(i as f32 * 0.3).cos(), (i as f32 * 0.3).sin()]).collect();
    let linkage = Linkage::complete(20, &look(&tensor(rows.clone(), 2), 0.9).pairs).unwrap();
    let groups = linkage.groups(0.9);
    assert!(!groups.is_empty());
    for Group { rows: group, least } in groups {
        let pairs = group.iter().flat_map(|&a| group.iter().map(move |&b| (a, b)));
        let found = pairs.map(|(a, b)| dot(&rows, 2, a as usize, b as usize)).fold(1.0, f32::min);
        assert!((found - least).abs() < 1e-5 && least >= 0.9 && group.len() < 4, "{group:?}: {found} {least}");
    }
}

#[test]
fn of_two_partners_the_more_alike_is_taken() {
    let pairs = [(0, 1, 0.95), (1, 2, 0.97)].map(|(a, b, similarity)| Pair { a, b, similarity });
    let linkage = Linkage::complete(3, &pairs).unwrap();
    assert_eq!(linkage.groups(0.9), [Group { rows: vec![1, 2], least: 0.97 }]);
    assert!(linkage.groups(0.98).is_empty());
}

#[test]
fn a_crowd_is_told_by_the_similarity_from_which_its_pairs_are_known() {
    let rows = unit_rows(600, 16, 1, 0.3, 5);
    let found = look(&tensor(rows, 16), 0.1);
    assert!(found.complete_from > 0.5, "{}", found.complete_from);
    let few = look(&tensor(unit_rows(200, 16, 1, 0.3, 5), 16), 0.1);
    assert_eq!((few.complete_from, few.pairs.len()), (0.1, 200 * 199 / 2));
}

#[test]
fn threads_change_nothing() {
    let rows = tensor(unit_rows(400, 12, 30, 0.4, 6), 12);
    let of = |threads| on_threads(threads, || look(&rows, 0.5));
    let (one, three) = (of(1), of(3));
    assert_eq!(one, three);
    let groups = |found: &Nearby| Linkage::complete(400, &found.pairs).unwrap().groups(0.7);
    assert_eq!(groups(&one), groups(&three));
}

#[test]
fn what_cannot_be_is_refused() {
    let rows = tensor(unit_rows(10, 4, 2, 0.4, 7), 4);
    let error = |found: la_core::Result<Nearby>| found.unwrap_err().to_string();
    assert_eq!(error(nearby(&rows, 0.5, 0, &mut |_| ())), "nearest rows to average must be in 1 to 31, got 0");
    let broken = tensor(vec![f32::NAN; 8], 4);
    assert!(error(nearby(&broken, 0.5, 5, &mut |_| ())).contains("finite"));
    let pair = Pair { a: 1, b: 9, similarity: 0.5 };
    assert!(Linkage::complete(3, &[pair]).unwrap_err().to_string().contains("rows below 3"));
}

#[test]
fn one_row_is_alone() {
    let found = look(&tensor(vec![1.0, 0.0], 2), 0.5);
    assert_eq!((found.pairs.len(), found.mean_nearest), (0, vec![0.0]));
}
