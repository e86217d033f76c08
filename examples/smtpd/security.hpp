// security -- certificates and accounts that can be replaced while sessions are under way.
#pragma once

#include <unistd.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <Net/SMTP/Server/AuthFile.hpp>
#include <Net/SMTP/Server/Sasl.hpp>
#include <Net/SMTP/Server/ServerTLS.hpp>

#include "settings.hpp"

// Something of which there may be a newer one at any time.
template <class Thing>
class Current {
public:
    std::shared_ptr<Thing> get() const {
        const std::lock_guard lock(mutex_);
        return thing_;
    }
    void set(std::shared_ptr<Thing> thing) {
        const std::lock_guard lock(mutex_);
        thing_ = std::move(thing);
    }

private:
    mutable std::mutex mutex_;
    std::shared_ptr<Thing> thing_;
};

class CurrentTLS : public Net::SMTP::TLSAcceptor, public Current<Net::SMTP::ServerTLS> {
public:
    std::unique_ptr<Net::SMTP::TLSLayer> accept(int fd) override { return get()->accept(fd); }
};

class CurrentAccounts : public Net::SMTP::Accounts, public Current<Net::SMTP::AuthFile> {
public:
    Proofs proofs() const override { return get()->proofs(); }
    std::optional<Net::SMTP::ScramKeys> keys(const std::string& user) override { return get()->keys(user); }
    std::optional<std::string> clear_password(const std::string& user) override { return get()->clear_password(user); }
};

// Whether the keys can be read by whom we are now.
inline bool can_read_keys(const Settings& given) {
    for (const auto& key : given.paths("tls_key"))
        if (access(key.c_str(), R_OK) != 0) return false;
    return true;
}

// Null without certificates. BadConfig.
inline std::shared_ptr<Net::SMTP::ServerTLS> read_certificates(const Settings& given) {
    const auto certificates = given.paths("tls_cert"), keys = given.paths("tls_key");
    if (certificates.size() != keys.size()) given.refuse("tls_cert", "each needs its tls_key");
    if (keys.empty()) return nullptr;
    Net::SMTP::ServerTLS::Options files;
    for (std::size_t i = 0; i < keys.size(); ++i) files.certificates.push_back({certificates[i], keys[i]});
    try {
        return std::make_shared<Net::SMTP::ServerTLS>(files);
    } catch (const std::exception& e) {
        given.refuse("tls_cert", e.what());
    }
}

// Null without a file. BadConfig.
inline std::shared_ptr<Net::SMTP::AuthFile> read_accounts(const Settings& given) {
    const auto file = given.text("auth_file");
    if (file.empty()) return nullptr;
    try {
        return std::make_shared<Net::SMTP::AuthFile>(file);
    } catch (const std::exception& e) {
        given.refuse("auth_file", e.what());
    }
}

// What the options say of both, for a server. BadConfig.
inline void secure(Net::SMTP::Options& options, const Settings& given) {
    options.require_tls = given.flag("require_tls");
    if (options.require_tls && !options.tls) given.refuse("require_tls", "has no effect without tls_cert");
    const auto clear = given.text("auth_clear");
    if (clear == "loopback") options.clear_auth = Net::SMTP::ClearAuth::loopback;
    else if (clear == "everywhere") options.clear_auth = Net::SMTP::ClearAuth::everywhere;
    else if (clear != "never") given.refuse("auth_clear", "'" + clear + "'");
    if (options.auth && !options.tls && clear == "never")
        given.refuse("auth_file", "nobody could log in without tls_cert or auth_clear");
}
