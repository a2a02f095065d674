//! Multidimensional scaling, compared with scikit-learn's (golden/mds.py).

mod support;

use la_cli::measures::mds::{distances, mds, Mds};
use support::clouds::tensor;
use support::golden;

fn between(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

#[test]
fn the_stress_is_that_of_scikit_learn_within_two_percent() {
    for name in ["classes", "scattered", "noisy"] {
        let golden = golden(&format!("mds_{name}"));
        let values = |name: &str| golden.get(name).flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let (given, expected) = (values("distances"), values("stress")[0]);
        let n = given.len().isqrt();
        let found = mds(&given, n).unwrap();
        assert!(found.stress <= 1.02 * expected, "{name}: {} for {expected}", found.stress);
        let pairs = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j)));
        let stress: f64 = pairs.map(|(i, j)| (between(found.points[i], found.points[j]) - given[i * n + j]).powi(2)).sum();
        assert!((stress - found.stress).abs() < 1e-9 * stress, "{name}: the points have another stress");
    }
}

#[test]
fn a_plane_is_found_again() {
    let square: Vec<f32> = vec![0.0, 0.0, 1.0, 0.0, 1.0, 2.0, 0.0, 2.0];
    let given = distances(&tensor(square, 2)).unwrap();
    let Mds { points, stress } = mds(&given, 4).unwrap();
    assert!(stress < 1e-12, "{stress}");
    for i in 0..4 {
        for j in 0..4 {
            assert!((between(points[i], points[j]) - given[i * 4 + j]).abs() < 1e-6);
        }
    }
}

#[test]
fn one_point_and_equal_points_lie_at_the_origin() {
    assert_eq!(mds(&[0.0], 1).unwrap(), Mds { points: vec![[0.0; 2]], stress: 0.0 });
    assert!(mds(&[0.0; 9], 3).unwrap().points.iter().flatten().all(|x| x.abs() < 1e-12));
    let two = mds(&[0.0, 3.0, 3.0, 0.0], 2).unwrap();
    assert!((between(two.points[0], two.points[1]) - 3.0).abs() < 1e-9);
}

#[test]
fn what_are_no_distances_is_refused() {
    for (given, n) in [(vec![], 0), (vec![0.0; 3], 2)] {
        assert!(mds(&given, n).unwrap_err().to_string().contains(&format!("expected {n} x {n} distances")));
    }
    for given in [[0.0, 1.0, 2.0, 0.0], [0.0, -1.0, -1.0, 0.0], [0.0, f64::NAN, f64::NAN, 0.0], [1.0, 2.0, 2.0, 0.0]] {
        assert!(mds(&given, 2).unwrap_err().to_string().contains("symmetric, finite and at least 0"), "{given:?}");
    }
}
