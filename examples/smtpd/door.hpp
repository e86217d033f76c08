// door -- a server of the daemon: where mail comes in, who is asked for a login there, and what is spoken.
#pragma once

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <Net/SMTP/Server.hpp>

#include "log.hpp"
#include "policies.hpp"
#include "settings.hpp"

// The three of them, by the option that says where each listens.
inline const std::vector<std::string>& door_names() {
    static const std::vector<std::string> names{"listen", "submission", "lmtp"};
    return names;
}

// Where that one is to listen. What a service manager has given us is for `listen`, unless somebody else names it.
inline std::vector<std::string> door_addresses(const Settings& given, const std::string& name) {
    if (name == "listen" && !given.given(name))
        if (auto inherited = Net::SMTP::Server::activated(); !inherited.empty()) return inherited;
    return given.list(name);
}

class Door {
public:
    // Listens. BadConfig, std::system_error.
    Door(std::string name, const Settings& given, Net::SMTP::Options options)
        : name_(std::move(name)), addresses_(door_addresses(given, name_)), server_(open(given, std::move(options))) {}

    const std::string& name() const { return name_; }
    Net::SMTP::Server& server() { return *server_; }
    const std::vector<std::string>& addresses() const { return addresses_; }

    // From now on these policies; each in the place of the one before.
    void set(const Policies& all) {
        for (const auto& [name, plugin] : all)
            if (server_->pipeline().replace(name, name, plugin) == 0) server_->pipeline().add(name, plugin);
    }

    // Listens where it does not yet. Then either settle() or undo() completes it. std::system_error.
    void listen_to(const std::vector<std::string>& addresses) {
        for (const auto& address : addresses) {
            if (std::find(addresses_.begin(), addresses_.end(), address) != addresses_.end()) continue;
            server_->start_listener(address);
            begun_.push_back(address);
        }
    }
    void undo() {
        for (const auto& address : begun_) server_->stop_listener(address);
        begun_.clear();
    }
    // Listens nowhere else, and says where it does now.
    void settle(const std::vector<std::string>& addresses) {
        for (const auto& address : addresses_)
            if (std::find(addresses.begin(), addresses.end(), address) == addresses.end())
                server_->stop_listener(address);
        if (!begun_.empty()) ready();
        begun_.clear();
        addresses_ = addresses;
    }

    void ready() {
        const auto all = server_->addresses();
        for (std::size_t i = 0; i < all.size(); ++i)
            std::printf("listening on %s%s\n", all[i].str().c_str(), server_->implicit_tls(i) ? " (TLS)" : "");
        std::fflush(stdout);
    }

private:
    std::unique_ptr<Net::SMTP::Server> open(const Settings& given, Net::SMTP::Options options) {
        try {
            if (name_ == "submission") {
                if (!options.auth) given.refuse(name_, "needs auth_file");
                options.require_auth = options.complete = options.qualified = true;
                options.require_tls = options.tls != nullptr;
            } else if (name_ == "lmtp") {
                options.protocol = Net::SMTP::Protocol::lmtp;
            }
            return std::make_unique<Net::SMTP::Server>(addresses_, std::move(options));
        } catch (const std::invalid_argument& e) {
            given.refuse(name_, e.what());
        }
    }

    const std::string name_;
    std::vector<std::string> addresses_, begun_{};
    const std::unique_ptr<Net::SMTP::Server> server_;
};
