//! Local and background densities.

mod support;

use la_cli::measures::density::{densities, Densities, Ranks};
use support::clouds::{on_threads, tensor, unit_rows};

#[test]
fn ranks_are_the_published_ones_where_there_are_so_many_rows() {
    assert_eq!(Ranks::of(4097), Ranks { local: 30, background: (1000, 4096), is_published: true });
    assert_eq!(Ranks::of(1_281_167), Ranks { local: 30, background: (1000, 4096), is_published: true });
    // 1000 / 4096 of 2048 others.
    assert_eq!(Ranks::of(2049), Ranks { local: 30, background: (500, 2048), is_published: false });
    assert_eq!(Ranks::of(83), Ranks { local: 19, background: (20, 82), is_published: false });
}

#[test]
fn densities_are_means_over_sorted_similarities() {
    let (n, dim) = (300, 12);
    let rows = unit_rows(n, dim, 6, 0.5, 1);
    let queries = [0u32, 17, 299];
    let Densities { local, background, ranks } = densities(&tensor(rows.clone(), dim), &queries, &mut |_| ()).unwrap();
    for (at, &row) in queries.iter().enumerate() {
        let others = (0..n).filter(|&other| other != row as usize);
        let dot = |other: usize| (0..dim).map(|i| f64::from(rows[row as usize * dim + i]) * f64::from(rows[other * dim + i])).sum::<f64>();
        let mut scores: Vec<f64> = others.map(dot).collect();
        scores.sort_by(|a, b| b.total_cmp(a));
        let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((f64::from(local[at]) - mean(&scores[..ranks.local])).abs() < 1e-5);
        assert!((f64::from(background[at]) - mean(&scores[ranks.background.0 - 1..ranks.background.1])).abs() < 1e-5);
    }
}

#[test]
fn copies_of_a_row_are_its_neighbours() {
    let rows = tensor([1.0, 0.0].repeat(600), 2);
    let found = densities(&rows, &[0, 599], &mut |_| ()).unwrap();
    assert_eq!((found.local, found.background), (vec![1.0; 2], vec![1.0; 2]));
}

#[test]
fn threads_change_nothing() {
    let rows = tensor(unit_rows(500, 8, 9, 0.4, 2), 8);
    let all: Vec<u32> = (0..500).collect();
    let of = |threads| on_threads(threads, || densities(&rows, &all, &mut |_| ()).unwrap());
    assert_eq!(of(1), of(3));
}

#[test]
fn too_few_rows_and_rows_that_are_not_there_are_refused() {
    let error = |n, query| densities(&tensor(unit_rows(n, 4, 2, 0.4, 3), 4), &[query], &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error(7, 0), "densities need at least 8 rows, got 7");
    assert_eq!(error(8, 8), "densities are asked for of row 8, and there are 8");
}
