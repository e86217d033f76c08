// open_store -- the store of a queue by the name of its place, as the programs of the benchmark take it.
#pragma once

#include <memory>
#include <string>

#include <Net/SMTP/Relay/PostgresStore.hpp>
#include <Net/SMTP/Relay/SqliteStore.hpp>

inline std::shared_ptr<Net::SMTP::Store> open_store(const std::string& place) {
    if (place.starts_with("postgresql://")) return std::make_shared<Net::SMTP::PostgresStore>(place);
    return std::make_shared<Net::SMTP::SqliteStore>(place);
}
