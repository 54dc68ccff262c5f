//! A demonstration catalogue: products and stores that look real, are made up, and are the same everywhere.

mod shelves;

use shelves::{BRANDS, DEPARTMENTS, SIZES, Size, VARIANTS};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const FIRST_SKU: usize = 1_000_001;

// The prefix that GS1 keeps for examples, so that no code here is that of a real product.
const GTIN_PREFIX: &str = "952";

// A prime above the number of combinations: stepping by it visits each combination once before any again, in an
// order that mixes the departments.
const STEP: usize = 1_000_003;

const PER_SHELF: usize = BRANDS * VARIANTS * SIZES;

const SEED: u64 = 0x6d61_6c6f_7465;

/// How dear each of a department's ten brands is, in hundredths.
const BRAND_LEVELS: [i64; BRANDS] = [100, 118, 92, 105, 85, 110, 97, 128, 88, 143];

/// A product of the demonstration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoProduct {
    /// The back office's own code.
    pub sku: String,
    /// What the receipt says.
    pub description: String,
    /// Department of the store.
    pub department: &'static str,
    /// Category within the department.
    pub category: &'static str,
    /// Brand, made up.
    pub brand: &'static str,
    /// As printed on the package.
    pub package_size: &'static str,
    /// Unit it is sold in.
    pub unit: &'static str,
    /// GTIN-13 with its check digit.
    pub gtin: String,
    /// Price of one unit.
    pub price_cents: i64,
}

/// The catalogue could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}; check that its folder exists, may be written to and has room", path.display())]
pub struct WriteCatalogueError {
    path: PathBuf,
    source: io::Error,
}

/// The first `count` products of the demonstration; more of them never change the first ones.
pub fn products(count: usize) -> impl Iterator<Item = DemoProduct> {
    let total = combinations();
    let mut random = SplitMix64(SEED);
    let mut combination = 0;
    (0..count).map(move |number| {
        combination = (combination + STEP) % total;
        product(number, combination, number / total, &mut random)
    })
}

/// The stores of the demonstration: code, name, CNPJ and time zone.
pub fn stores() -> [(&'static str, &'static str, &'static str, &'static str); 5] {
    [
        ("001", "Malote Campinas (SP)", "99876543000134", "America/Sao_Paulo"),
        ("002", "Malote Ouro Preto (MG)", "99876543000215", "America/Sao_Paulo"),
        ("003", "Malote Cuiabá (MT)", "99876543000304", "America/Cuiaba"),
        ("004", "Malote Manaus (AM)", "99876543000487", "America/Manaus"),
        ("005", "Malote Rio Branco (AC)", "99876543000568", "America/Rio_Branco"),
    ]
}

/// Writes the first `count` products as a CSV file with a header.
pub fn write_csv(path: &Path, count: usize) -> Result<(), WriteCatalogueError> {
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        write_rows(&mut file, count)?;
        file.into_inner()?.sync_all()
    };
    write().map_err(|source| WriteCatalogueError { path: path.to_path_buf(), source })
}

fn write_rows(out: &mut impl Write, count: usize) -> io::Result<()> {
    writeln!(out, "sku,description,department,category,brand,package_size,unit,gtin,price_cents")?;
    for product in products(count) {
        writeln!(
            out,
            "{},{},{},{},{},{},{},{},{}",
            product.sku,
            quoted(&product.description),
            quoted(product.department),
            quoted(product.category),
            quoted(product.brand),
            quoted(product.package_size),
            product.unit,
            product.gtin,
            product.price_cents
        )?;
    }
    Ok(())
}

/// A cell, in quotes when it holds the delimiter, as in `1,5 L`; no text of the catalogue holds a quote.
fn quoted(text: &str) -> String {
    if text.contains(',') { format!("\"{text}\"") } else { text.to_owned() }
}

/// How many different products there are.
fn combinations() -> usize {
    PER_SHELF * DEPARTMENTS.iter().map(|department| department.shelves.len()).sum::<usize>()
}

/// The product numbered `number`; `round` counts how often every combination has been made already.
fn product(number: usize, combination: usize, round: usize, random: &mut SplitMix64) -> DemoProduct {
    let mut shelves = DEPARTMENTS
        .iter()
        .flat_map(|department| department.shelves.iter().map(move |shelf| (department, shelf)));
    let first = (&DEPARTMENTS[0], &DEPARTMENTS[0].shelves[0]);
    let (department, shelf) = shelves.nth(combination / PER_SHELF).unwrap_or(first);
    let brand_at = combination % BRANDS;
    let brand = name(department.brands, brand_at);
    let variant = name(shelf.variants, combination / BRANDS % VARIANTS);
    let Size(size, level) = shelf.sizes[combination / BRANDS / VARIANTS % SIZES];
    let mut description = format!("{} {variant} {brand} {size}", shelf.product);
    if round > 0 {
        description.push_str(&format!(" edição {}", round + 1));
    }
    let spread = 90 + i64::from(random.below(21));
    let around = shelf.base_cents * level / 100 * BRAND_LEVELS[brand_at] / 100 * spread / 100;
    let endings = department.endings.iter().cycle().skip(usize::from(random.below(8)));
    let ending = endings.copied().next().unwrap_or_default();
    DemoProduct {
        sku: (FIRST_SKU + number).to_string(),
        description,
        department: department.name,
        category: shelf.category,
        brand,
        package_size: size,
        unit: "UN",
        gtin: gtin13(number + 1),
        price_cents: around.max(50) / 10 * 10 + ending,
    }
}

/// The name at `at` in a list of names.
fn name(names: &'static str, at: usize) -> &'static str {
    names.split(", ").nth(at).unwrap_or_default()
}

fn gtin13(number: usize) -> String {
    let digits = format!("{GTIN_PREFIX}{number:09}");
    let weighted = digits.bytes().zip([1, 3].into_iter().cycle());
    let sum: u32 = weighted.map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// SplitMix64, a small generator whose numbers are the same on every machine.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a small bound; the remainder's bias does not matter for prices.
    fn below(&mut self, bound: u16) -> u16 {
        let [low, high, ..] = self.next().to_le_bytes();
        u16::from_le_bytes([low, high]) % bound
    }
}

#[cfg(test)]
mod tests;
