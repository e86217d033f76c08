// door -- a server of the daemon: where mail comes in, who is asked for a login there, and what is spoken.
#pragma once

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
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

// What is spoken there, and who has to log in. BadConfig.
inline Net::SMTP::Options door_options(const std::string& name, const Settings& given, Net::SMTP::Options options) {
    if (name == "submission") {
        if (!options.auth) given.refuse(name, "needs auth_file");
        options.require_auth = options.complete = options.qualified = true;
        options.require_tls = options.tls != nullptr;
    } else if (name == "lmtp") {
        options.protocol = Net::SMTP::Protocol::lmtp;
    }
    return options;
}

// What can be said about it without listening. BadConfig.
inline void check_door(const std::string& name, const Settings& given, const Net::SMTP::Options& all) {
    const auto addresses = given.list(name);
    if (addresses.empty()) return;
    const auto options = door_options(name, given, all);
    const bool lmtp = options.protocol == Net::SMTP::Protocol::lmtp;
    for (const auto& address : addresses) {
        const bool tls = address.starts_with("tls:");
        const auto place = address.substr(tls ? 4 : 0);
        if (tls && !options.tls) given.refuse(name, "no certificate for " + address);
        if (lmtp && !place.starts_with("fd:") && Net::SMTP::Endpoint::parse(place, 24).port == 25)
            given.refuse(name, "LMTP must not be spoken on TCP port 25: " + address);
    }
}

class Door {
public:
    // Listens. BadConfig, std::system_error.
    Door(std::string name, const Settings& given, Net::SMTP::Options options)
        : name_(std::move(name)), server_(open(given, door_addresses(given, name_), std::move(options))) {}

    const std::string& name() const { return name_; }
    Net::SMTP::Server& server() { return *server_; }

    // From now on these policies; each in the place of the one before.
    void set(const Policies& all) {
        for (const auto& [name, plugin] : all)
            if (server_->pipeline().replace(name, name, plugin) == 0) server_->pipeline().add(name, plugin);
    }

    // Listens where it does not yet. Then either settle() or undo() completes it. std::system_error.
    void listen_to(const std::vector<std::string>& addresses) {
        for (const auto& address : addresses)
            if (!places_.contains(address)) start(*server_, address, begun_);
    }
    void undo() {
        end(begun_, places_);
        begun_.clear();
    }
    // Listens nowhere else, and says where it does now.
    void settle(const std::vector<std::string>& addresses) {
        const bool more = !begun_.empty();
        auto gone = std::exchange(places_, std::exchange(begun_, {}));
        for (const auto& address : addresses)
            if (auto stays = gone.extract(address)) places_.insert(std::move(stays));
        end(gone, places_);
        if (more) ready();
    }

    void ready() {
        const auto all = server_->addresses();
        for (std::size_t i = 0; i < all.size(); ++i)
            std::printf("listening on %s%s\n", all[i].str().c_str(), server_->implicit_tls(i) ? " (TLS)" : "");
        std::fflush(stdout);
    }

private:
    using Places = std::map<std::string, std::vector<Net::SMTP::Endpoint>>;  // by the address as it is written

    static void start(Net::SMTP::Server& server, const std::string& address, Places& places) {
        for (auto& where : server.start_listener(address)) places[address].push_back(std::move(where));
    }
    // One place may be written in several ways: who stays keeps it.
    void end(const Places& gone, const Places& stay) {
        const auto kept = [&](const Net::SMTP::Endpoint& where) {
            return std::ranges::any_of(
                stay, [&](const auto& place) { return std::ranges::find(place.second, where) != place.second.end(); });
        };
        for (const auto& [address, places] : gone) {
            if (std::ranges::none_of(places, kept)) server_->stop_listener(address);
            else
                for (const auto& where : places)
                    if (!kept(where)) server_->stop_listener(where.str());
        }
    }

    std::unique_ptr<Net::SMTP::Server> open(const Settings& given, const std::vector<std::string>& addresses,
                                            Net::SMTP::Options options) {
        try {
            const std::vector<std::string> first(addresses.begin(), addresses.begin() + 1);
            auto server = std::make_unique<Net::SMTP::Server>(first, door_options(name_, given, std::move(options)));
            places_[first.front()] = server->addresses();
            for (auto address = addresses.begin() + 1; address != addresses.end(); ++address)
                start(*server, *address, places_);
            return server;
        } catch (const std::invalid_argument& e) {
            given.refuse(name_, e.what());
        }
    }

    const std::string name_;
    Places places_{}, begun_{};
    const std::unique_ptr<Net::SMTP::Server> server_;
};
