//! The schema cache as JSON, for people who look for a fault (PostgREST docs, "Runtime Schema Cache"). Names and shape
//! are PostgREST's; maps with compound keys are arrays of pairs.

use std::sync::Arc;

use serde_json::{Value, json};

use super::relationship::ColumnPairs;
use super::{
    Cardinality, HandlerTarget, MediaHandler, PgType, Relationship, ReturnType, Routine, SchemaCache, Table, Volatility,
};
use crate::identifier::QualifiedIdentifier;

impl SchemaCache {
    /// Everything, in an order that depends on nothing but the content.
    pub fn to_json(&self) -> Value {
        let tables = sorted(self.tables.iter().map(|(name, table)| json!([identifier(name), of_table(table)])));
        let relationships = sorted(self.relationships.iter().map(|((table, schema), all)| {
            let all: Vec<Value> = all.iter().map(relationship).collect();
            json!([[identifier(table), **schema], all])
        }));
        let routines = sorted(self.routines.iter().map(|(name, overloads)| {
            let overloads: Vec<Value> = overloads.iter().map(|overload| routine(overload)).collect();
            json!([identifier(name), overloads])
        }));
        let representations = sorted(self.representations.iter().map(|((source, target), function)| {
            let content = json!({"drSourceType": **source, "drTargetType": **target, "drFunction": **function});
            json!([[**source, **target], content])
        }));
        let handlers = sorted(self.media_handlers.iter().map(|((target, asked), (handler, answered))| {
            json!([[handler_target(target), asked.mime()], [media_handler(handler), answered.mime()]])
        }));
        let timezones = sorted(self.timezones.get().into_iter().flatten().map(|name| json!(**name)));
        json!({
            "dbTables": tables,
            "dbRelationships": relationships,
            "dbRoutines": routines,
            "dbRepresentations": representations,
            "dbMediaHandlers": handlers,
            "dbTimezones": timezones,
        })
    }
}

fn sorted(values: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut values: Vec<Value> = values.collect();
    values.sort_by_cached_key(Value::to_string);
    values
}

fn identifier(qi: &QualifiedIdentifier) -> Value {
    json!({"qiSchema": *qi.schema, "qiName": *qi.name})
}

fn of_table(table: &Table) -> Value {
    let columns = table.columns.iter().map(|column| {
        let content = json!({
            "colName": *column.name,
            "colDescription": column.description,
            "colNullable": column.nullable,
            "colType": *column.data_type,
            "colNominalType": *column.nominal_type,
            "colMaxLen": column.max_length,
            "colDefault": column.default,
            "colEnum": column.enum_values,
        });
        (column.name.to_string(), content)
    });
    json!({
        "tableSchema": *table.schema,
        "tableName": *table.name,
        "tableDescription": table.description,
        "tableIsView": table.is_view,
        "tableInsertable": table.insertable,
        "tableUpdatable": table.updatable,
        "tableDeletable": table.deletable,
        "tablePKCols": names(&table.pk_columns),
        "tableColumns": columns.collect::<serde_json::Map<String, Value>>(),
    })
}

fn names(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

fn pairs(columns: &ColumnPairs) -> Vec<[&str; 2]> {
    columns.iter().map(|(a, b)| [&**a, &**b]).collect()
}

fn relationship(relationship: &Relationship) -> Value {
    match relationship {
        Relationship::ForeignKey {
            table,
            foreign_table,
            is_self,
            cardinality: of,
            table_is_view,
            foreign_table_is_view,
        } => json!({
            "tag": "Relationship",
            "relTable": identifier(table),
            "relForeignTable": identifier(foreign_table),
            "relIsSelf": is_self,
            "relCardinality": cardinality(of),
            "relTableIsView": table_is_view,
            "relFTableIsView": foreign_table_is_view,
        }),
        Relationship::Computed { function, table, foreign_table, to_one, is_self } => json!({
            "tag": "ComputedRelationship",
            "relFunction": identifier(function),
            "relTable": identifier(table),
            "relForeignTable": identifier(foreign_table),
            "relToOne": to_one,
            "relIsSelf": is_self,
        }),
    }
}

fn cardinality(cardinality: &Cardinality) -> Value {
    match cardinality {
        Cardinality::OneToMany { constraint, columns } => {
            json!({"tag": "O2M", "relCons": **constraint, "relColumns": pairs(columns)})
        }
        Cardinality::ManyToOne { constraint, columns } => {
            json!({"tag": "M2O", "relCons": **constraint, "relColumns": pairs(columns)})
        }
        Cardinality::OneToOne { constraint, columns, is_parent } => {
            json!({"tag": "O2O", "relCons": **constraint, "relColumns": pairs(columns), "isParent": is_parent})
        }
        Cardinality::ManyToMany(junction) => json!({"tag": "M2M", "contents": {
            "junTable": identifier(&junction.table),
            "junConstraint1": *junction.source_constraint,
            "junConstraint2": *junction.target_constraint,
            "junColsSource": pairs(&junction.source_columns),
            "junColsTarget": pairs(&junction.target_columns),
        }}),
    }
}

fn routine(routine: &Routine) -> Value {
    let params = routine.params.iter().map(|param| {
        json!({
            "ppName": *param.name,
            "ppType": *param.data_type,
            "ppTypeMaxLength": *param.max_length_type,
            "ppReq": param.required,
            "ppVar": param.variadic,
        })
    });
    let settings = routine.settings.iter().map(|(name, value)| json!([**name, **value]));
    let volatility = match routine.volatility {
        Volatility::Volatile => "Volatile",
        Volatility::Stable => "Stable",
        Volatility::Immutable => "Immutable",
    };
    let return_type = match &routine.return_type {
        ReturnType::Single(of) => json!({"tag": "Single", "contents": pg_type(of)}),
        ReturnType::SetOf(of) => json!({"tag": "SetOf", "contents": pg_type(of)}),
    };
    json!({
        "pdSchema": *routine.schema,
        "pdName": *routine.name,
        "pdDescription": routine.description,
        "pdParams": params.collect::<Vec<Value>>(),
        "pdReturnType": return_type,
        "pdVolatility": volatility,
        "pdHasVariadic": routine.has_variadic,
        "pdFuncSettings": settings.collect::<Vec<Value>>(),
    })
}

fn pg_type(of: &PgType) -> Value {
    match of {
        PgType::Scalar(name) => json!({"tag": "Scalar", "contents": identifier(name)}),
        PgType::Composite { name, is_alias } => json!({"tag": "Composite", "contents": [identifier(name), is_alias]}),
    }
}

fn handler_target(target: &HandlerTarget) -> Value {
    match target {
        HandlerTarget::Relation(name) => json!({"tag": "RelId", "contents": identifier(name)}),
        HandlerTarget::AnyElement => json!({"tag": "RelAnyElement"}),
    }
}

fn media_handler(handler: &MediaHandler) -> Value {
    match handler {
        MediaHandler::SingleJson { nulls_stripped } => {
            json!({"tag": "BuiltinAggSingleJson", "contents": nulls_stripped})
        }
        MediaHandler::ArrayJsonStrip => json!({"tag": "BuiltinAggArrayJsonStrip"}),
        MediaHandler::Json => json!({"tag": "BuiltinOvAggJson"}),
        MediaHandler::GeoJson => json!({"tag": "BuiltinOvAggGeoJson"}),
        MediaHandler::Csv => json!({"tag": "BuiltinOvAggCsv"}),
        MediaHandler::Custom { function, target } => {
            json!({"tag": "CustomFunc", "contents": [identifier(function), handler_target(target)]})
        }
        MediaHandler::None => json!({"tag": "NoAgg"}),
    }
}
