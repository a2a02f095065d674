//! Figures of classifications, of retrieval and of clusters, and how far they may be chance.

mod support;

use la_cli::measures::intervals::{bootstrap, mcnemar, mean_interval, paired, BootstrapConfig};
use la_cli::measures::retrieval::{retrieve, retrieve_others, Retrieval};
use la_cli::probe::few_labels::FewLabels;
use la_core::eval::agreement::{adjusted_rand_index, normalized_mutual_information, purity};
use la_core::eval::knn::{classify, nearest, nearest_others, outcomes, Neighbors};
use la_core::eval::outcomes::Outcomes;
use support::clouds::{on_threads, tensor, unit_rows};
use support::golden;

#[track_caller]
fn assert_near(got: f64, expected: f32, what: &str) {
    assert!((got - f64::from(expected)).abs() < 1e-6, "{what}: {got}, expected {expected}");
}

#[test]
fn golden_agreement_of_clusters_and_classes_holds() {
    let golden = golden("agreement");
    for case in ["renamed", "noisy", "chance", "one", "alone", "both_one"] {
        let (clusters, classes) = (golden.indices(&format!("{case}.clusters")), golden.indices(&format!("{case}.classes")));
        let expected = golden.values(&format!("{case}.figures"));
        assert_near(normalized_mutual_information(&clusters, &classes).unwrap(), expected[0], case);
        assert_near(adjusted_rand_index(&clusters, &classes).unwrap(), expected[1], case);
        assert_near(purity(&clusters, &classes).unwrap(), expected[2], case);
    }
}

#[test]
fn groupings_of_other_items_are_refused() {
    for (first, second) in [(&[0, 1][..], &[0][..]), (&[], &[])] {
        for f in [purity, normalized_mutual_information, adjusted_rand_index] {
            assert!(f(first, second).unwrap_err().to_string().starts_with("expected two groupings of the same items"));
        }
    }
}

#[test]
fn golden_retrieval_holds() {
    let golden = golden("retrieval");
    let (bank, labels) = (golden.get("bank"), golden.indices("labels"));
    let check = |found: Retrieval, name: &str| {
        let (precisions, figures) = (golden.values(&format!("{name}.precisions")), golden.values(&format!("{name}.figures")));
        assert_eq!(found.average_precision.len(), precisions.len());
        found.average_precision.iter().zip(&precisions).for_each(|(got, &expected)| assert_near(*got, expected, name));
        assert_near(found.mean_average_precision(), figures[0], name);
        for (k, &recall) in [1, 5, 10].into_iter().zip(&figures[1..]) {
            assert_near(found.recall(k), recall, name);
        }
    };
    let (queries, query_labels) = (golden.get("queries"), golden.indices("query_labels"));
    check(retrieve(bank, &labels, queries, &query_labels).unwrap(), "queries");
    check(retrieve_others(bank, &labels).unwrap(), "others");
}

#[test]
fn a_query_whose_class_no_row_has_is_left_out_of_retrieval() {
    let bank = tensor(vec![1.0, 0.0, 0.0, 1.0], 2);
    let found = retrieve(&bank, &[0, 1], &tensor(vec![1.0, 0.0, 0.6, 0.8, 0.0, 1.0], 2), &[0, 5, 0]).unwrap();
    assert_eq!((found.queries, found.first_ranks), (vec![0, 2], vec![0, 1]));
    assert_eq!(found.average_precision, [1.0, 0.5]);
    let error = retrieve(&bank, &[0, 1], &bank, &[2, 2]).unwrap_err().to_string();
    assert_eq!(error, "no query's class has a row to be found");
    let error = retrieve(&bank, &[0], &bank, &[0, 1]).unwrap_err().to_string();
    assert_eq!(error, "expected one label for each of 2 rows and 2 queries, got 1 and 2");
    let error = retrieve(&tensor(vec![f32::NAN, 0.0], 2), &[0], &bank, &[0, 1]).unwrap_err().to_string();
    assert_eq!(error, "bank must be finite, got NaN in row 0");
}

#[test]
fn outcomes_count_ranks_classes_and_confusions() {
    let scores = [0.7, 0.2, 0.1, 0.1, 0.1, 0.8, 0.3, 0.4, 0.3, f64::NEG_INFINITY, 0.5, 0.5];
    let outcomes = Outcomes::of_scores(&scores, &[0, 0, 2, 0], 3).unwrap();
    assert_eq!((outcomes.predicted.as_slice(), outcomes.ranks.as_slice()), (&[0, 2, 1, 1][..], &[0, 1, 2, 3][..]));
    assert_eq!([1, 2, 3].map(|k| outcomes.top(k)), [0.25, 0.5, 0.75]);
    assert_eq!(outcomes.is_in_top(1), [true, false, false, false]);
    assert_eq!(outcomes.per_class(), [Some(1.0 / 3.0), None, Some(0.0)]);
    assert_eq!(outcomes.confusion(), [1, 1, 1, 0, 0, 0, 0, 1, 0]);
}

#[test]
fn scores_that_do_not_fit_are_refused() {
    let error = |scores: &[f64], labels: &[u32]| Outcomes::of_scores(scores, labels, 2).unwrap_err().to_string();
    assert_eq!(error(&[0.0; 3], &[0, 1]), "expected 2 scores for each of 2 images, at least one, got 3");
    assert_eq!(error(&[], &[]), "expected 2 scores for each of 0 images, at least one, got 0");
    assert_eq!(error(&[0.0; 2], &[2]), "labels must be below the number of classes 2, got 2");
    assert_eq!(error(&[0.0, f64::NAN], &[0]), "scores of classes must be numbers, got NaN");
}

#[test]
fn the_outcomes_of_neighbours_are_their_votes() {
    let (bank, queries) = (tensor(unit_rows(300, 8, 6, 0.8, 1), 8), tensor(unit_rows(90, 8, 6, 0.8, 2), 8));
    let (labels, of_queries): (Vec<u32>, Vec<u32>) = ((0..300).map(|i| i % 6).collect(), (0..90).map(|i| i % 6).collect());
    let found = nearest(&bank, &queries, 20).unwrap();
    let votes = classify(&found, &labels, 6, 0.07).unwrap();
    let outcomes = outcomes(&found, &labels, &of_queries, 6, 0.07).unwrap();
    assert_eq!(outcomes.predicted, votes.iter().map(|vote| vote.predicted).collect::<Vec<_>>());
    assert!(outcomes.top(1) < outcomes.top(2) && outcomes.top(6) <= 1.0);
}

#[test]
fn a_class_without_a_vote_is_in_no_top() {
    let found = Neighbors { indices: vec![0, 1], scores: vec![1.0, 0.9], k: 2 };
    let outcomes = outcomes(&found, &[0, 0], &[1], 3, 0.1).unwrap();
    assert_eq!((outcomes.ranks[0], outcomes.top(3)), (3, 0.0));
    let others = nearest_others(&tensor(vec![1.0, 0.0, 0.8, 0.6, 0.0, 1.0], 2), 2).unwrap();
    assert_eq!(others.indices, [1, 2, 0, 2, 1, 0]);
}

#[test]
fn golden_p_values_hold() {
    let golden = golden("mcnemar");
    for (pair, &p) in golden.indices("pairs").chunks(2).zip(&golden.values("p_values")) {
        let got = mcnemar(pair[0] as usize, pair[1] as usize);
        assert!((got - f64::from(p)).abs() < 1e-6 * f64::from(p).max(1e-3), "{pair:?}: {got}, expected {p}");
    }
}

#[test]
fn a_bootstrap_is_as_wide_as_the_binomial_says() {
    // 60 % of 400: the deviation of the share is 2.45 points, so 95 % lie within 4.8 of it.
    let right: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 5 < 3))).collect();
    let interval = mean_interval(&right, &BootstrapConfig::default()).unwrap();
    assert!((interval.low - 0.552).abs() < 0.007 && (interval.high - 0.648).abs() < 0.007, "{interval:?}");
    let narrow = mean_interval(&right, &BootstrapConfig { level: 0.5, ..Default::default() }).unwrap();
    assert!(narrow.low > interval.low && narrow.high < interval.high);
    let certain = mean_interval(&[1.0; 9], &BootstrapConfig::default()).unwrap();
    assert_eq!((certain.low, certain.high), (1.0, 1.0));
}

#[test]
fn a_bootstrap_is_the_same_for_any_number_of_threads() {
    let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17)).collect();
    let run = || mean_interval(&values, &BootstrapConfig::default()).unwrap();
    assert_eq!(on_threads(1, run), on_threads(3, run));
    let other = mean_interval(&values, &BootstrapConfig { seed: 1, ..Default::default() }).unwrap();
    assert_ne!(run(), other);
}

#[test]
fn a_bootstrap_of_nothing_is_refused() {
    let error = mean_interval(&[], &BootstrapConfig::default()).unwrap_err().to_string();
    assert_eq!(error, "a bootstrap needs at least one image and one draw, got 0 and 1000");
    let error = bootstrap(3, &BootstrapConfig { level: 1.0, ..Default::default() }, |_| 0.0).unwrap_err().to_string();
    assert_eq!(error, "the level of a bootstrap must be in (0, 1), got 1");
}

#[test]
fn networks_are_compared_image_by_image() {
    let right = |is_wrong: &dyn Fn(u32) -> bool| (0..200).map(|i| f64::from(!is_wrong(i))).collect::<Vec<f64>>();
    let (first, second) = (right(&|i| i % 10 == 0), right(&|i| i % 4 == 0));
    let compare = |first: &[f64], second: &[f64]| paired(first, second, &BootstrapConfig::default());
    let compared = compare(&first, &second).unwrap();
    // Multiples of 4 but not of 10, and of 10 but not of 4.
    assert_eq!(compared.better, (40, 10));
    assert!((compared.difference - 0.15).abs() < 1e-12 && compared.p_value.unwrap() < 1e-4, "{compared:?}");
    assert!(compared.interval.low > 0.05 && compared.interval.high < 0.25, "{compared:?}");
    let same = compare(&first, &first).unwrap();
    assert_eq!((same.difference, same.p_value, same.interval.low, same.interval.high), (0.0, Some(1.0), 0.0, 0.0));
    assert_eq!(compare(&[0.5, 1.0], &[0.25, 1.0]).unwrap().p_value, None);
    let error = compare(&first, &second[1..]).unwrap_err().to_string();
    assert_eq!(error, "a paired test needs the same images, got 200 and 199");
}

#[test]
fn few_labels_are_read_as_they_are_written() {
    for (text, few) in [("1%", FewLabels::Share(0.01)), ("0.5%", FewLabels::Share(0.005)), ("5", FewLabels::PerClass(5))] {
        assert_eq!(text.parse::<FewLabels>().unwrap(), few);
        assert_eq!(few.to_string(), text);
    }
    assert_eq!("7%".parse::<FewLabels>().unwrap().to_string(), "7%");
    for text in ["0", "0%", "101%", "-1", "NaN%", "five", ""] {
        let error = text.parse::<FewLabels>().unwrap_err().to_string();
        assert!(error.starts_with("expected a share of the labels such as 1% or 10%, or a number"), "{text}: {error}");
    }
}

#[test]
fn few_labels_take_of_every_class_and_repeat_with_their_seed() {
    let labels: Vec<u32> = (0..230).map(|i| if i < 200 { i % 2 } else { 2 + i % 3 }).collect();
    let count = |drawn: &[u32], class: u32| drawn.iter().filter(|&&i| labels[i as usize] == class).count();
    let tenth = FewLabels::Share(0.1).draw(&labels, 0);
    assert_eq!([0, 1, 2, 3, 4].map(|class| count(&tenth, class)), [10, 10, 1, 1, 1]);
    assert!(tenth.windows(2).all(|pair| pair[0] < pair[1]));
    let five = FewLabels::PerClass(20).draw(&labels, 0);
    assert_eq!([0, 1, 2].map(|class| count(&five, class)), [20, 20, 10]);
    assert_eq!(five, FewLabels::PerClass(20).draw(&labels, 0));
    assert_ne!(five, FewLabels::PerClass(20).draw(&labels, 1));
    assert_eq!(FewLabels::Share(1.0).draw(&labels, 3).len(), 230);
}

#[test]
fn retrieval_is_the_same_for_any_number_of_threads() {
    let bank = tensor(unit_rows(500, 16, 5, 0.9, 3), 16);
    let labels: Vec<u32> = (0..500).map(|i| i % 5).collect();
    let run = || retrieve_others(&bank, &labels).unwrap();
    assert_eq!(on_threads(1, run), on_threads(3, run));
}
