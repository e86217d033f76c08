// store -- the store that the option `queue` names.
#pragma once

#include <memory>
#include <string>

#include <Net/SMTP/Relay/PostgresStore.hpp>
#include <Net/SMTP/Relay/SqliteStore.hpp>

#include "settings.hpp"

// StoreError, std::exception.
inline std::shared_ptr<Net::SMTP::Store> open_store(const Settings& given) {
    const auto queue = given.text("queue");
    if (is_database(queue))
        return std::make_shared<Net::SMTP::PostgresStore>(
            queue, Net::SMTP::PostgresStore::Options{.lease = given.period("lease")});
    return std::make_shared<Net::SMTP::SqliteStore>(Settings::absolute(queue));
}
