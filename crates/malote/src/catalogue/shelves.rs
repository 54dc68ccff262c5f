//! What a Brazilian supermarket sells, as data: every shelf multiplies its variants, sizes and brands. The
//! brands are made up.

/// How many brands a department has, and how many variants and sizes each of its shelves has.
pub(super) const BRANDS: usize = 10;
pub(super) const VARIANTS: usize = 7;
pub(super) const SIZES: usize = 5;

/// A department, and the last digits its prices end in.
pub(super) struct Department {
    pub name: &'static str,
    pub endings: &'static [i64],
    // Ten names, with a comma between each two.
    pub brands: &'static str,
    pub shelves: &'static [Shelf],
}

/// One sort of product.
pub(super) struct Shelf {
    pub category: &'static str,
    pub product: &'static str,
    // What the smallest usual package costs, before brand and size.
    pub base_cents: i64,
    // Seven names, with a comma between each two.
    pub variants: &'static str,
    pub sizes: &'static [Size; SIZES],
}

/// A package, and its price in hundredths of the base price.
pub(super) struct Size(pub &'static str, pub i64);

const fn shelf(
    category: &'static str,
    product: &'static str,
    base_cents: i64,
    variants: &'static str,
    sizes: &'static [Size; SIZES],
) -> Shelf {
    Shelf { category, product, base_cents, variants, sizes }
}

const GRAINS: &[Size; SIZES] =
    &[Size("500 g", 60), Size("1 kg", 100), Size("2 kg", 190), Size("5 kg", 450), Size("10 kg", 860)];
const BAGS: &[Size; SIZES] =
    &[Size("100 g", 60), Size("200 g", 100), Size("250 g", 120), Size("400 g", 180), Size("500 g", 215)];
const JARS: &[Size; SIZES] =
    &[Size("170 g", 60), Size("300 g", 100), Size("340 g", 112), Size("500 g", 155), Size("2 kg", 540)];
const BOTTLES: &[Size; SIZES] =
    &[Size("250 mL", 60), Size("500 mL", 100), Size("750 mL", 140), Size("1 L", 180), Size("2 L", 330)];
const DRINKS: &[Size; SIZES] =
    &[Size("200 mL", 45), Size("350 mL", 70), Size("600 mL", 100), Size("1,5 L", 165), Size("2 L", 200)];
const CANS: &[Size; SIZES] = &[
    Size("269 mL", 80),
    Size("350 mL", 100),
    Size("473 mL", 130),
    Size("600 mL", 175),
    Size("12 x 350 mL", 1_100),
];
const CUPS: &[Size; SIZES] =
    &[Size("90 g", 60), Size("100 g", 66), Size("170 g", 100), Size("500 g", 260), Size("900 g", 430)];
const SLICES: &[Size; SIZES] =
    &[Size("150 g", 80), Size("200 g", 100), Size("300 g", 145), Size("500 g", 230), Size("1 kg", 430)];
const LOAVES: &[Size; SIZES] =
    &[Size("200 g", 55), Size("350 g", 85), Size("400 g", 100), Size("500 g", 120), Size("700 g", 160)];
const TRAYS: &[Size; SIZES] =
    &[Size("300 g", 65), Size("400 g", 80), Size("500 g", 100), Size("800 g", 150), Size("1 kg", 185)];
const REFILLS: &[Size; SIZES] =
    &[Size("500 mL", 60), Size("1 L", 100), Size("2 L", 180), Size("3 L", 260), Size("5 L", 410)];
const PACKS: &[Size; SIZES] =
    &[Size("2 un", 55), Size("4 un", 100), Size("8 un", 185), Size("12 un", 265), Size("16 un", 340)];
const TUBES: &[Size; SIZES] =
    &[Size("50 g", 70), Size("70 g", 90), Size("90 g", 110), Size("120 g", 140), Size("180 g", 190)];
const BARS: &[Size; SIZES] =
    &[Size("25 g", 40), Size("80 g", 85), Size("90 g", 100), Size("150 g", 160), Size("500 g", 480)];
const FEED: &[Size; SIZES] =
    &[Size("1 kg", 100), Size("3 kg", 270), Size("7 kg", 590), Size("10,1 kg", 820), Size("15 kg", 1_150)];

/// Everything on sale.
pub(super) const DEPARTMENTS: &[Department] = &[
    Department {
        name: "Mercearia",
        endings: &[9],
        brands: "Serra Azul, Vale Dourado, Dona Benvinda, Rio Claro do Sul, Sol do Cerrado, \
            Campo Belo, Tropeiro, Boa Mesa, Três Irmãos, Casa Ipê",
        shelves: &[
            shelf(
                "Café",
                "Café",
                1_390,
                "torrado e moído, extra forte, tradicional, gourmet, orgânico, descafeinado, em grãos",
                BAGS,
            ),
            shelf(
                "Arroz",
                "Arroz",
                690,
                "branco, parboilizado, integral, arbóreo, cateto, agulhinha tipo 1, negro",
                GRAINS,
            ),
            shelf(
                "Feijão",
                "Feijão",
                850,
                "carioca, preto, branco, fradinho, rajado, jalo, de corda",
                GRAINS,
            ),
            shelf(
                "Açúcar",
                "Açúcar",
                480,
                "refinado, cristal, demerara, mascavo, de confeiteiro, orgânico, de coco",
                GRAINS,
            ),
            shelf(
                "Massas",
                "Macarrão",
                420,
                "espaguete, parafuso, penne, gravatinha, ave-maria, integral, com ovos",
                BAGS,
            ),
            shelf(
                "Farinhas",
                "Farinha",
                520,
                "de trigo, de mandioca, de milho, de rosca, de arroz, de aveia, integral",
                GRAINS,
            ),
            shelf(
                "Molhos",
                "Molho de tomate",
                290,
                "tradicional, manjericão, bolonhesa, pizza, azeitona, sem açúcar, apimentado",
                JARS,
            ),
            shelf(
                "Conservas",
                "Azeitona",
                890,
                "verde com caroço, verde sem caroço, preta, fatiada, recheada, azapa, temperada",
                JARS,
            ),
            shelf(
                "Óleos e azeites",
                "Óleo",
                790,
                "de soja, de milho, de girassol, de canola, de algodão, misto, de arroz",
                BOTTLES,
            ),
            shelf(
                "Biscoitos",
                "Biscoito",
                350,
                "recheado chocolate, recheado morango, maisena, água e sal, polvilho, amanteigado, integral",
                BAGS,
            ),
        ],
    },
    Department {
        name: "Bebidas",
        endings: &[9, 5],
        brands: "Fonte Clara, Pinhal, Água Viva da Serra, Guará do Norte, Maré Alta, \
            Sabiá, Lagoa Mansa, Pomar Feliz, Estância, Cascata Fria",
        shelves: &[
            shelf(
                "Águas",
                "Água mineral",
                220,
                "sem gás, com gás, levemente gaseificada, alcalina, com limão, com hortelã, de nascente",
                DRINKS,
            ),
            shelf(
                "Refrigerantes",
                "Refrigerante",
                490,
                "guaraná, cola, laranja, limão, uva, cola zero, guaraná zero",
                DRINKS,
            ),
            shelf(
                "Sucos",
                "Suco",
                690,
                "de laranja, de uva, de maracujá, de caju, de goiaba, de manga, de pêssego",
                DRINKS,
            ),
            shelf(
                "Chás",
                "Chá gelado",
                520,
                "limão, pêssego, mate, verde, hibisco, camomila, mate zero",
                DRINKS,
            ),
            shelf(
                "Cervejas",
                "Cerveja",
                430,
                "pilsen, puro malte, sem álcool, escura, de trigo, amarga, leve",
                CANS,
            ),
            shelf(
                "Energéticos",
                "Energético",
                790,
                "tradicional, sem açúcar, melancia, maçã verde, açaí, tangerina, frutas vermelhas",
                CANS,
            ),
            shelf(
                "Água de coco",
                "Água de coco",
                620,
                "integral, esterilizada, com abacaxi, com maracujá, orgânica, resfriada, reconstituída",
                DRINKS,
            ),
        ],
    },
    Department {
        name: "Laticínios e frios",
        endings: &[9, 5],
        brands: "Montanha Branca, Fazenda Aurora Velha, Leitinho da Vila, Pasto Novo, Queijaria São Bento, \
            Curral de Minas, Nata Pura, Sítio Esperança, Bela Vaca, Alto da Canastra",
        shelves: &[
            shelf("Iogurtes", "Iogurte", 350, "natural, morango, coco, ameixa, grego, desnatado, mel", CUPS),
            shelf(
                "Queijos",
                "Queijo",
                1_590,
                "muçarela, prato, minas frescal, minas padrão, coalho, parmesão, provolone",
                SLICES,
            ),
            shelf(
                "Requeijão",
                "Requeijão",
                790,
                "cremoso, light, com cheddar, sem lactose, com ervas, tradicional, culinário",
                CUPS,
            ),
            shelf(
                "Manteigas",
                "Manteiga",
                1_090,
                "com sal, sem sal, extra, de garrafa, sem lactose, com ervas, clarificada",
                SLICES,
            ),
            shelf(
                "Leites",
                "Leite",
                490,
                "integral, desnatado, semidesnatado, sem lactose, com cálcio, tipo A, de cabra",
                BOTTLES,
            ),
            shelf(
                "Frios",
                "Presunto",
                1_190,
                "cozido, de peru, defumado, magro, sem capa, de frango, serrano",
                SLICES,
            ),
            shelf(
                "Embutidos",
                "Salame",
                1_690,
                "italiano, milano, hamburguês, fatiado, picante, artesanal, colonial",
                SLICES,
            ),
        ],
    },
    Department {
        name: "Padaria",
        endings: &[0, 5],
        brands: "Pão da Praça, Forno da Vó, Trigal, Massa Madre, Bom Miolo, \
            Padoca Central, Casquinha, Moinho Antigo, Fermento e Cia, Dona Zefa",
        shelves: &[
            shelf(
                "Pães",
                "Pão de forma",
                850,
                "tradicional, integral, doze grãos, sem casca, de leite, australiano, de milho",
                LOAVES,
            ),
            shelf(
                "Pães",
                "Pão",
                690,
                "de queijo, italiano, sírio, de batata, de mel, de centeio, caseiro",
                LOAVES,
            ),
            shelf(
                "Bolos",
                "Bolo",
                1_290,
                "de fubá, de cenoura, de laranja, de chocolate, formigueiro, de milho, de coco",
                LOAVES,
            ),
            shelf(
                "Torradas",
                "Torrada",
                550,
                "tradicional, integral, com alho, sem sal, multigrãos, com azeite, de centeio",
                BAGS,
            ),
            shelf(
                "Rosquinhas",
                "Rosquinha",
                490,
                "de coco, de leite, de nata, de chocolate, de pinga, de canela, de limão",
                BAGS,
            ),
            shelf(
                "Panetones",
                "Panetone",
                1_890,
                "de frutas, com gotas de chocolate, trufado, de goiabada, sem açúcar, de damasco, de doce de leite",
                LOAVES,
            ),
        ],
    },
    Department {
        name: "Limpeza",
        endings: &[9],
        brands: "Brilhante Lar, Limpa Já, Espuma Azul, Casa Cheirosa, Vento Leve, \
            Pureza, Lustro, Alvorada Lar, Bem Limpo, Flor de Algodão",
        shelves: &[
            shelf(
                "Roupas",
                "Lava-roupas líquido",
                1_290,
                "tradicional, coco, roupas escuras, roupas brancas, bebê, concentrado, lavanda",
                REFILLS,
            ),
            shelf(
                "Roupas",
                "Amaciante",
                890,
                "tradicional, concentrado, lavanda, bebê, aloe vera, brisa, jasmim",
                REFILLS,
            ),
            shelf(
                "Desinfetantes",
                "Desinfetante",
                590,
                "pinho, lavanda, eucalipto, limão, floral, citronela, jasmim",
                REFILLS,
            ),
            shelf(
                "Água sanitária",
                "Água sanitária",
                450,
                "tradicional, perfumada, com detergente, gel, concentrada, cloro ativo, multiuso",
                REFILLS,
            ),
            shelf(
                "Multiuso",
                "Limpador",
                690,
                "multiuso, vidros, cozinha, banheiro, pisos laminados, porcelanato, álcool",
                REFILLS,
            ),
            shelf(
                "Papéis",
                "Papel-toalha",
                490,
                "folha dupla, folha tripla, picotado, decorado, reciclado, extra, neutro",
                PACKS,
            ),
            shelf(
                "Louças",
                "Esponja",
                240,
                "dupla face, de aço, vegetal, antirrisco, multiuso, delicada, de banho",
                PACKS,
            ),
        ],
    },
    Department {
        name: "Higiene e beleza",
        endings: &[9, 0],
        brands: "Flor de Cajá, Bem-te-vi, Pele Morena, Orvalho, Cacheada, \
            Menta Fria, Algodoal, Mar e Sal, Jardim Secreto, Doce Manhã",
        shelves: &[
            shelf(
                "Cabelos",
                "Xampu",
                1_390,
                "hidratante, anticaspa, cachos, cabelos oleosos, infantil, reconstrutor, camomila",
                BOTTLES,
            ),
            shelf(
                "Cabelos",
                "Condicionador",
                1_490,
                "hidratante, cachos, nutritivo, infantil, reconstrutor, camomila, óleo de argan",
                BOTTLES,
            ),
            shelf(
                "Higiene bucal",
                "Creme dental",
                490,
                "menta, hortelã, branqueador, sensível, infantil, carvão, própolis",
                TUBES,
            ),
            shelf(
                "Banho",
                "Sabonete",
                260,
                "aveia, erva-doce, lavanda, glicerina, antibacteriano, leite e mel, andiroba",
                TUBES,
            ),
            shelf(
                "Papéis",
                "Papel higiênico",
                690,
                "folha simples, folha dupla, folha tripla, neutro, perfumado, reciclado, compacto",
                PACKS,
            ),
            shelf(
                "Absorventes",
                "Absorvente",
                750,
                "com abas, sem abas, noturno, fino, diário, pós-parto, cobertura suave",
                PACKS,
            ),
            shelf(
                "Corpo",
                "Hidratante corporal",
                1_690,
                "amêndoas, aveia, karité, coco, cupuaçu, ureia, sem perfume",
                BOTTLES,
            ),
        ],
    },
    Department {
        name: "Congelados",
        endings: &[9],
        brands: "Polo Sul, Geladeira Cheia, Chef da Roça, Pampa Frio, Mar do Leste, \
            Granja São José, Horta Fria, Sabor de Casa, Neve Branca, Boiada",
        shelves: &[
            shelf(
                "Pratos prontos",
                "Lasanha",
                1_690,
                "à bolonhesa, quatro queijos, de frango, de espinafre, de berinjela, de calabresa, vegetariana",
                TRAYS,
            ),
            shelf(
                "Aves",
                "Frango",
                1_390,
                "filé de peito, coxa, sobrecoxa, asa, empanado, a passarinho, coração",
                TRAYS,
            ),
            shelf(
                "Pescados",
                "Peixe",
                2_490,
                "tilápia em filé, merluza em filé, cação em posta, sardinha, pescada, salmão em filé, bacalhau desfiado",
                TRAYS,
            ),
            shelf(
                "Legumes",
                "Legumes",
                1_090,
                "brócolis, couve-flor, ervilha, milho, seleta, espinafre, vagem",
                TRAYS,
            ),
            shelf(
                "Salgados",
                "Salgado",
                1_490,
                "coxinha, quibe, bolinha de queijo, pastel de carne, empada de palmito, esfirra, pão de queijo",
                TRAYS,
            ),
            shelf(
                "Polpas",
                "Polpa de fruta",
                790,
                "acerola, açaí, cupuaçu, graviola, cajá, morango, maracujá",
                TRAYS,
            ),
            shelf(
                "Carnes",
                "Hambúrguer",
                1_590,
                "bovino, de frango, de picanha, de costela, vegetal, de linguiça, misto",
                TRAYS,
            ),
        ],
    },
    Department {
        name: "Doces e animais",
        endings: &[9, 5, 0],
        brands: "Doce de Tacho, Cacau do Sul, Rapadura Boa, Quindim, Caramelo, \
            Tico e Téo, Bicho Feliz, Quintal, Pata Amiga, Beija-flor",
        shelves: &[
            shelf(
                "Chocolates",
                "Chocolate",
                790,
                "ao leite, meio amargo, branco, com castanhas, com amendoim, setenta por cento, com flocos",
                BARS,
            ),
            shelf(
                "Doces",
                "Doce",
                890,
                "de leite, de abóbora, de goiaba, de batata-doce, de mamão, de banana, de amendoim",
                JARS,
            ),
            shelf(
                "Balas",
                "Bala",
                390,
                "de hortelã, de mel, de coco, de café, de goma, de gengibre, de tamarindo",
                BAGS,
            ),
            shelf(
                "Cães",
                "Ração para cães",
                1_890,
                "adultos carne, adultos frango, filhotes, raças pequenas, sênior, castrados, light",
                FEED,
            ),
            shelf(
                "Gatos",
                "Ração para gatos",
                2_290,
                "adultos peixe, adultos frango, filhotes, castrados, pelo longo, sênior, urinário",
                FEED,
            ),
            shelf(
                "Snacks",
                "Batata frita",
                690,
                "original, ondulada, cebola e salsa, churrasco, palha, lisa, queijo",
                BAGS,
            ),
            shelf(
                "Castanhas",
                "Castanha",
                1_990,
                "de caju torrada, de caju salgada, do Pará, de baru, mista, de caju natural, caramelizada",
                BAGS,
            ),
        ],
    },
];
