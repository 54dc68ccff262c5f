use super::shelves::{BRANDS, DEPARTMENTS, VARIANTS};
use super::{combinations, products, stores, write_csv, write_rows};
use std::collections::{BTreeMap, HashSet};

fn written(count: usize) -> String {
    let mut out = Vec::new();
    write_rows(&mut out, count).expect("memory");
    String::from_utf8(out).expect("UTF-8")
}

/// FNV-1a, so that one number stands for the whole text.
fn hash(text: &str) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[test]
fn the_catalogue_is_the_same_on_every_machine() {
    assert_eq!(
        hash(&written(20_000)),
        2_261_354_267_299_080_760,
        "change this number only together with what demos and docs show"
    );
}

#[test]
fn fewer_products_are_the_first_of_more() {
    assert!(written(500).starts_with(&written(100)));
    assert_eq!(products(0).count(), 0);
}

#[test]
fn codes_and_names_are_unique_even_when_combinations_run_out() {
    let count = combinations() + 3_000;
    assert!(combinations() >= 20_000, "{}", combinations());
    let (mut skus, mut gtins, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
    for product in products(count) {
        assert!(skus.insert(product.sku.clone()), "{product:?}");
        assert!(gtins.insert(product.gtin.clone()), "{product:?}");
        assert!(names.insert(product.description.clone()), "{product:?}");
    }
    assert_eq!(names.len(), count);
    assert_eq!(names.iter().filter(|name| name.ends_with(" edição 2")).count(), 3_000);
}

#[test]
fn departments_and_shelves_have_as_many_names_as_are_counted_on() {
    let names =
        |list: &'static str| list.split(", ").filter(|name| !name.is_empty()).collect::<HashSet<_>>().len();
    for department in DEPARTMENTS {
        assert_eq!(names(department.brands), BRANDS, "{}", department.name);
        for shelf in department.shelves {
            assert_eq!(names(shelf.variants), VARIANTS, "{} {}", department.name, shelf.product);
        }
    }
}

#[test]
fn gtins_have_thirteen_digits_and_their_check_digit() {
    for product in products(2_000) {
        let digits: Vec<u32> = product.gtin.chars().filter_map(|digit| digit.to_digit(10)).collect();
        assert_eq!((digits.len(), product.gtin.len()), (13, 13), "{product:?}");
        let odd: u32 = digits.iter().step_by(2).sum();
        let even: u32 = digits.iter().skip(1).step_by(2).sum();
        assert_eq!((odd + 3 * even) % 10, 0, "{product:?}");
    }
}

#[test]
fn prices_are_plausible_and_end_as_their_department_ends_them() {
    let mut endings: BTreeMap<&str, HashSet<i64>> = BTreeMap::new();
    for product in products(20_000) {
        assert!((50..=60_000).contains(&product.price_cents), "{product:?}");
        endings.entry(product.department).or_default().insert(product.price_cents % 10);
    }
    assert_eq!(endings.len(), 8);
    assert!(endings.values().flatten().all(|ending| [0, 5, 9].contains(ending)), "{endings:?}");
    assert_eq!(endings["Mercearia"], HashSet::from([9]));
    assert_eq!(endings["Padaria"], HashSet::from([0, 5]));
}

#[test]
fn a_product_reads_like_one() {
    let coffee = "Café torrado e moído Serra Azul 500 g";
    let found =
        products(combinations()).find(|product| product.description == coffee).expect("there is coffee");
    assert_eq!((found.department, found.category, found.unit), ("Mercearia", "Café", "UN"));
    assert_eq!((found.brand, found.package_size), ("Serra Azul", "500 g"));
    assert!((1_500..=4_500).contains(&found.price_cents), "{found:?}");
}

#[test]
fn the_first_products_come_from_many_departments() {
    let departments: HashSet<&str> = products(100).map(|product| product.department).collect();
    assert_eq!(departments.len(), 8);
}

#[test]
fn the_file_has_a_header_and_one_well_formed_row_a_product() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("products.csv");
    write_csv(&path, 300).expect("a file");
    let text = std::fs::read_to_string(&path).expect("the file");
    assert_eq!(text, written(300));
    assert_eq!(text.lines().count(), 301);
    for row in text.lines().skip(1) {
        let outside: String = row.split('"').step_by(2).collect();
        assert_eq!(outside.matches(',').count(), 8, "{row}");
    }
    assert!(text.contains("\"1,5 L\""), "a size with a comma is in quotes");
    let error = write_csv(&folder.path().join("none").join("products.csv"), 1).expect_err("no such folder");
    assert!(error.to_string().ends_with("check that its folder exists, may be written to and has room"));
}

#[test]
fn stores_have_valid_cnpjs_and_more_than_one_time_zone() {
    let digit = |digits: &[u32], weights: &[u32]| {
        let sum: u32 = digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum();
        if sum % 11 < 2 { 0 } else { 11 - sum % 11 }
    };
    for (code, name, cnpj, _) in stores() {
        let digits: Vec<u32> = cnpj.chars().filter_map(|digit| digit.to_digit(10)).collect();
        assert_eq!(digits.len(), 14, "{code} {name}");
        assert_eq!(digits[12], digit(&digits, &[5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]), "{code} {name}");
        assert_eq!(digits[13], digit(&digits, &[6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]), "{code} {name}");
    }
    let unique = |of: fn((&'static str, &'static str, &'static str, &'static str)) -> &'static str| {
        stores().into_iter().map(of).collect::<HashSet<_>>().len()
    };
    assert_eq!((unique(|store| store.0), unique(|store| store.2), unique(|store| store.3)), (5, 5, 4));
}
