//! A schema cache by hand that has each kind of thing a plan can meet: all cardinalities, a computed relationship, a view
//! without keys, domain representations, defaults, a generated column's type, functions of all shapes, and a media handler.

use std::sync::Arc;

use rest::identifier::QualifiedIdentifier;
use rest::media_type::MediaType;
use rest::schema_cache::{
    Cardinality, Column, ColumnPairs, HandlerTarget, Junction, MediaHandler, PgType, Relationship, ReturnType, Routine,
    RoutineParam, SchemaCache, SettingReaders, Table, Volatility, builtin_media_handlers,
};

pub const SCHEMA: &str = "public";

/// Relations with the names of their columns.
pub const RELATIONS: [(&str, &[&str]); 5] = [
    ("clients", &["id", "name"]),
    ("projects", &["id", "name", "client_id", "data", "color", "search", "tags"]),
    ("tasks", &["id", "name", "project_id", "parent_id"]),
    ("users", &["id", "name"]),
    ("everything", &["id", "spaced name"]),
];

/// What can be embedded in a relation, with the relation that it is.
pub const EMBEDDINGS: [(&str, &[(&str, &str)]); 5] = [
    ("clients", &[("projects", "projects"), ("projects_client_id_fkey", "projects")]),
    ("projects", &[("clients", "clients"), ("client_id", "clients"), ("tasks", "tasks"), ("latest_task", "tasks")]),
    ("tasks", &[("projects", "projects"), ("tasks", "tasks"), ("parent_id", "tasks"), ("users", "users")]),
    ("users", &[("tasks", "tasks")]),
    ("everything", &[]),
];

/// Functions with the names of their parameters.
pub const FUNCTIONS: [(&str, &[&str]); 6] = [
    ("add_them", &["a", "b"]),
    ("search_projects", &["term"]),
    ("import", &[]),
    ("sum_of", &["numbers"]),
    ("nothing", &[]),
    ("upload", &[]),
];

fn qi(name: &str) -> QualifiedIdentifier {
    QualifiedIdentifier::new(SCHEMA, name)
}

fn table(name: &str, pk: &[&str], columns: &[(&str, &str, &str, Option<&str>)]) -> (QualifiedIdentifier, Table) {
    let table = Table {
        oid: 0,
        schema: SCHEMA.into(),
        name: name.into(),
        description: None,
        is_view: pk.is_empty(),
        has_heirs: false,
        insertable: true,
        updatable: true,
        deletable: true,
        pk_columns: pk.iter().map(|&c| Arc::from(c)).collect(),
        columns: columns
            .iter()
            .map(|(name, base, nominal, default)| Column {
                name: (*name).into(),
                description: None,
                nullable: true,
                data_type: (*base).into(),
                nominal_type: (*nominal).into(),
                max_length: None,
                default: default.map(Into::into),
                enum_values: Arc::default(),
            })
            .collect(),
    };
    (qi(name), table)
}

fn pairs(pairs: &[(&str, &str)]) -> ColumnPairs {
    pairs.iter().map(|(a, b)| (Arc::from(*a), Arc::from(*b))).collect()
}

/// A foreign key from both sides.
fn foreign_key(from: &str, column: &str, to: &str) -> [Relationship; 2] {
    let constraint: Arc<str> = format!("{from}_{column}_fkey").into();
    let side = |table: &str, foreign_table: &str, cardinality| Relationship::ForeignKey {
        table: qi(table),
        foreign_table: qi(foreign_table),
        is_self: table == foreign_table,
        cardinality,
        table_is_view: false,
        foreign_table_is_view: false,
    };
    let many_to_one = Cardinality::ManyToOne { constraint: constraint.clone(), columns: pairs(&[(column, "id")]) };
    let one_to_many = Cardinality::OneToMany { constraint, columns: pairs(&[("id", column)]) };
    [side(from, to, many_to_one), side(to, from, one_to_many)]
}

fn many_to_many(from: &str, to: &str) -> Relationship {
    let (source, target) = (format!("{from}_fkey"), format!("{to}_fkey"));
    let junction = Junction {
        table: qi("users_tasks"),
        source_constraint: source.as_str().into(),
        target_constraint: target.as_str().into(),
        source_columns: pairs(&[("id", &format!("{from}_id"))]),
        target_columns: pairs(&[("id", &format!("{to}_id"))]),
    };
    Relationship::ForeignKey {
        table: qi(from),
        foreign_table: qi(to),
        is_self: false,
        cardinality: Cardinality::ManyToMany(junction),
        table_is_view: false,
        foreign_table_is_view: false,
    }
}

fn routine(name: &str, params: &[(&str, &str, bool)], return_type: ReturnType) -> Arc<Routine> {
    let variadic = |data_type: &str| data_type.ends_with("[]");
    Arc::new(Routine {
        oid: 0,
        schema: SCHEMA.into(),
        name: name.into(),
        description: None,
        params: params
            .iter()
            .map(|(name, data_type, required)| RoutineParam {
                name: (*name).into(),
                data_type: (*data_type).into(),
                max_length_type: (*data_type).into(),
                required: *required,
                variadic: variadic(data_type),
            })
            .collect(),
        return_type,
        volatility: Volatility::Stable,
        has_variadic: params.iter().any(|(_, data_type, _)| variadic(data_type)),
        isolation_level: None,
        settings: Box::default(),
    })
}

/// The schema that all inputs are planned against.
pub fn cache() -> SchemaCache {
    let mut cache = SchemaCache {
        tables: [
            table("clients", &["id"], &[("id", "integer", "integer", None), ("name", "text", "text", None)]),
            table(
                "projects",
                &["id"],
                &[
                    ("id", "integer", "integer", Some("nextval('projects_id_seq'::regclass)")),
                    ("name", "text", "text", Some("''::text")),
                    ("client_id", "integer", "integer", None),
                    ("data", "jsonb", "jsonb", None),
                    ("color", "integer", "public.color", None),
                    ("search", "tsvector", "tsvector", None),
                    ("tags", "text[]", "text[]", None),
                ],
            ),
            table(
                "tasks",
                &["id"],
                &[
                    ("id", "integer", "integer", None),
                    ("name", "character varying", "character varying(20)", None),
                    ("project_id", "integer", "integer", None),
                    ("parent_id", "integer", "integer", None),
                ],
            ),
            table("users", &["id"], &[("id", "integer", "integer", None), ("name", "text", "text", None)]),
            table("everything", &[], &[("id", "integer", "integer", None), ("spaced name", "text", "text", None)]),
        ]
        .into(),
        media_handlers: builtin_media_handlers(),
        readers: SettingReaders::ALL,
        ..SchemaCache::default()
    };
    let computed = Relationship::Computed {
        function: qi("latest_task"),
        table: qi("projects"),
        foreign_table: qi("tasks"),
        to_one: true,
        is_self: false,
    };
    let foreign_keys = [
        foreign_key("projects", "client_id", "clients"),
        foreign_key("tasks", "project_id", "projects"),
        foreign_key("tasks", "parent_id", "tasks"),
    ];
    let others = [many_to_many("users", "tasks"), many_to_many("tasks", "users"), computed];
    for relationship in foreign_keys.into_iter().flatten().chain(others) {
        let key = (relationship.table().clone(), Arc::from(SCHEMA));
        cache.relationships.entry(key).or_default().push(relationship);
    }
    let scalar = |name: &str| PgType::Scalar(QualifiedIdentifier::new("pg_catalog", name));
    let rows = || PgType::Composite { name: qi("projects"), is_alias: false };
    for routine in [
        routine("add_them", &[("a", "integer", true), ("b", "integer", false)], ReturnType::Single(scalar("int4"))),
        routine("search_projects", &[("term", "text", true)], ReturnType::SetOf(rows())),
        routine("import", &[("", "json", true)], ReturnType::SetOf(rows())),
        routine("sum_of", &[("numbers", "integer[]", true)], ReturnType::SetOf(scalar("int4"))),
        routine("nothing", &[], ReturnType::Single(rows())),
        routine("upload", &[("", "bytea", true)], ReturnType::Single(scalar("void"))),
    ] {
        cache.routines.entry(routine.qualified_identifier()).or_default().push(routine);
    }
    for (from, to, function) in [
        ("public.color", "json", "public.color_to_json"),
        ("json", "public.color", "public.color_from_json"),
        ("text", "public.color", "public.color_from_text"),
    ] {
        cache.representations.insert((from.into(), to.into()), function.into());
    }
    let twkb = MediaType::parse("application/vnd.twkb");
    cache.media_handlers.insert(
        (HandlerTarget::Relation(qi("projects")), twkb.clone()),
        (MediaHandler::Custom { function: qi("as_twkb"), target: HandlerTarget::Relation(qi("projects")) }, twkb),
    );
    cache
}
