// service -- the parts of the daemon put together: doors, policies, routing and the queue; and put together again.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/Plugins/SessionLog.hpp>
#include <Net/SMTP/Server/Plugins/Transcript.hpp>
#include <Net/SMTP/Server/UnboundResolver.hpp>

#include "command_line.hpp"
#include "door.hpp"
#include "log.hpp"
#include "notify.hpp"
#include "pid_file.hpp"
#include "policies.hpp"
#include "privileges.hpp"
#include "routing.hpp"
#include "security.hpp"
#include "settings.hpp"
#include "store.hpp"

// Null where the option says so. "host@port" is understood too. BadConfig.
inline std::shared_ptr<Net::SMTP::Resolver> make_resolver(const Settings& given) {
    auto servers = given.list("dns");
    if (servers == std::vector<std::string>{"none"}) return nullptr;
    for (auto& server : servers)
        if (const auto at = server.find('@'); at != server.npos)
            server = Net::SMTP::Endpoint{server.substr(0, at),
                                         Net::SMTP::Endpoint::parse("h:" + server.substr(at + 1), 53).port}
                         .str();
    try {
        return std::make_shared<Net::SMTP::UnboundResolver>(
            Net::SMTP::UnboundResolver::Options{.servers = servers, .trust_anchor = given.text("trust_anchor")});
    } catch (const std::invalid_argument& e) {
        given.refuse("dns", e.what());
    } catch (const std::exception& e) {
        given.refuse("trust_anchor", e.what());
    }
}

inline std::string own_hostname(const Settings& given) {
    char name[256] = "localhost";
    if (given.text("hostname").empty()) gethostname(name, sizeof name - 1);
    return given.text("hostname").empty() ? name : given.text("hostname");
}

// BadConfig.
inline Net::SMTP::Schedule schedule_of(const Settings& given) {
    auto schedule = Net::SMTP::Schedule::named(given.text("schedule"));
    if (given.given("retry")) schedule.first = given.period("retry");
    if (schedule.longest < schedule.first) schedule.longest = schedule.first;
    if (given.given("life")) schedule.life = given.period("life");
    if (given.given("warn")) schedule.warn = given.period("warn");
    try {
        schedule.check();
    } catch (const std::exception& e) {
        given.refuse("retry", e.what());
    }
    return schedule;
}

// Of the option `user`. BadConfig.
inline Identity identity_of(const Settings& given) {
    try {
        return Identity(given.text("user"));
    } catch (const std::exception& e) {
        given.refuse("user", e.what());
    }
}

class Service {
public:
    // Listens, and has given up its privileges when it returns. BadConfig; what the system refuses is thrown as it is.
    Service(const CommandLine& line, const Settings& given)
        : line_(line),
          started_(given),
          given_(given),
          log_(given),
          resolver_(make_resolver(given)),
          transcript_(make_transcript()) {
        for (const auto& warning : given_.warnings()) log_.trouble(warning);
        std::optional<Identity> user;
        if (!given_.text("user").empty()) user.emplace(identity_of(given_));
        const Identity* owner = user ? &*user : nullptr;
        if (user) log_.give_to(user->user, user->group);
        tls_->set(read_certificates(given_));
        Net::SMTP::Options options;
        {
            if (!is_database(given_.text("queue"))) make_folder(Settings::absolute(given_.text("queue")), owner);
            const Acting as_owner(owner);
            accounts_->set(read_accounts(given_));
            routing_.set(make_routing(given_));
            make_queue();
            options = server_options();
        }
        open_doors(options);
        if (const auto file = given_.text("pid_file"); !file.empty())
            pid_file_.emplace(Settings::absolute(file), becomes_another(given_));
        if (user) become(*user);
    }

    // Serves until stop(); `ready` is called when it is about to. What the system refuses is thrown, when all has
    // ended.
    void run(const std::function<void()>& ready) {
        queue_->start();
        for (auto& door : doors_) door->ready();
        ready();
        tell_service_manager("READY=1");
        std::vector<std::thread> others;
        std::atomic<bool> failed{false};
        const auto serve = [&](Door& door) {
            try {
                door.server().run([](Net::SMTP::Server::Client&) {}, {.drain = drain_});
            } catch (const std::exception& e) {
                log_.trouble("a listener has ended: ", e.what());
                failed = true;
                stop();
            }
        };
        try {
            for (std::size_t i = 1; i < doors_.size(); ++i) others.emplace_back([&, i] { serve(*doors_[i]); });
        } catch (const std::exception& e) {
            log_.trouble("a listener can't be served: ", e.what());
            failed = true;
            stop();
        }
        serve(*doors_.front());
        for (auto& other : others) other.join();
        if (failed) throw std::runtime_error("a listener could not go on");
    }
    // No new mail; any thread, more than once.
    void stop() {
        for (auto& door : doors_) door->server().stop();
    }
    // And what is under way to others ends.
    void stop_queue() {
        tell_service_manager("STOPPING=1");
        queue_->stop(drain_);
    }

    // Reads the configuration again. What can't be used leaves everything as it was, and is told. One thread.
    void reload() noexcept try {
        try {
            log_.reopen();
            take_up(Settings(line_.options, line_.config));
            log_.event("reload", "result=done");
        } catch (const std::exception& e) {
            log_.event("reload", "result=failed what=" + log_value(e.what()));
        }
    } catch (const std::bad_alloc&) {
        // not even for the telling of it
    }

private:
    using Transcript = std::optional<Net::SMTP::Transcript>;

    Transcript make_transcript() {
        const auto where = given_.text("transcript");
        if (where.empty()) return std::nullopt;
        if (where == "stderr") return Net::SMTP::Transcript(stderr);
        const int fd = open_to_append(Settings::absolute(where), becomes_another(given_));
        if (fd >= 0) transcript_file_.reset(fdopen(fd, "a"));
        if (!transcript_file_) given_.refuse("transcript", std::generic_category().message(errno));
        return Net::SMTP::Transcript(transcript_file_.get());
    }
    std::shared_ptr<const Routing> make_routing(const Settings& given) const {
        return std::make_shared<const Routing>(given, own_hostname(started_), resolver_,
                                               transcript_ ? transcript_->next_hops() : Net::SMTP::Overhear());
    }

    void make_queue() {
        const auto store = open_store(given_);
        if (!store->lead())
            log_.trouble("another process delivers what is in " + store->name() +
                         ": this one only accepts until that ends");
        Net::SMTP::Queue::Options options;
        options.router = [this](const Net::SMTP::Sender&, const Net::SMTP::Recipient& to) {
            return std::optional(routing_.get()->find(to));
        };
        options.maxrelay = given_.number("maxrelay");
        options.per_destination = given_.number("per_destination");
        options.avoid = given_.period("avoid");
        options.max_hops = 0;  // Hops, in front of it, counts them
        options.schedule = schedule_of(given_);
        options.hostname = given_.text("hostname");
        queue_ = std::make_shared<Net::SMTP::Queue>(store, options);
        if (given_.flag("paused")) queue_->pause(true);
        log_.listen(*queue_);
    }

    Net::SMTP::Options server_options() const {
        Net::SMTP::Options options;
        options.name = given_.text("name");
        options.hostname = given_.text("hostname");
        options.greeting = given_.text("greeting");
        if (tls_->get()) options.tls = tls_;
        if (accounts_->get()) options.auth = std::make_shared<Net::SMTP::Sasl>(accounts_);
        options.complete = given_.flag("complete");
        options.max_message_size = given_.number("max_message_size");
        options.max_recipients = given_.number("max_recipients");
        options.max_connections = given_.number("max_connections");
        options.max_connections_per_ip = given_.number("max_connections_per_ip");
        options.command_timeout = given_.period("client_time_out");
        secure(options, given_);
        return queue_->apply(std::move(options));
    }
    void open_doors(const Net::SMTP::Options& options) {
        for (const auto& name : door_names()) {
            if (door_addresses(given_, name).empty()) continue;
            auto& door = *doors_.emplace_back(std::make_unique<Door>(name, given_, options));
            door.set(policies(given_, resolver_, routing_.get(), name == "listen"));
            auto& pipeline = door.server().pipeline();
            pipeline.add("queue", queue_);
            door.server().on<Net::SMTP::Event::Trouble>([this](Net::SMTP::Event::Trouble& e) {
                log_.trouble((e.plugin.empty() ? "" : e.plugin + ": ") + e.what);
            });
            door.server().on<Net::SMTP::Event::ListenerFailed>([this](Net::SMTP::Event::ListenerFailed& e) {
                log_.trouble("listening on " + e.address + ": " + std::generic_category().message(e.error) +
                             (e.lives ? ", going on" : ""));
            });
            Net::SMTP::SessionLog([this](std::string_view text) { log_.line(text); }).listen(pipeline);
            if (transcript_) transcript_->listen(pipeline);
        }
        if (doors_.empty()) given_.refuse("listen", "there is nowhere to listen");
    }

    void take_up(const Settings& next) {
        for (const auto& name : started_.for_restart(next)) log_.trouble(name + " has changed: that needs a restart");
        for (const auto& name : door_names())
            if (door_addresses(started_, name).empty() != door_addresses(next, name).empty())
                log_.trouble(name + ": whether there is one can only be changed by a restart");
        const auto accounts = read_accounts(next);
        // Of the same files the tickets of before stay good.
        const bool same =
            next.paths("tls_cert") == given_.paths("tls_cert") && next.paths("tls_key") == given_.paths("tls_key");
        const bool kept = same && !can_read_keys(next);
        if (kept) log_.trouble("tls_key can't be read as this user: the certificates stay as they were");
        const auto certificates = kept ? tls_->get() : read_certificates(next);
        if ((accounts == nullptr) != (accounts_->get() == nullptr))
            next.refuse("auth_file", "whether there is one can only be changed by a restart");
        if ((certificates == nullptr) != (tls_->get() == nullptr))
            next.refuse("tls_cert", "whether there is one can only be changed by a restart");
        const auto routing = make_routing(next);
        std::vector<Policies> sets;
        for (const auto& door : doors_) sets.push_back(policies(next, resolver_, routing, door->name() == "listen"));
        try {
            for (auto& door : doors_) door->listen_to(door_addresses(next, door->name()));
            if (certificates && same && !kept) tls_->get()->reload();
        } catch (...) {
            for (auto& door : doors_) door->undo();
            throw;
        }

        // From here on nothing fails but the store.
        if (certificates && !same) tls_->set(certificates);
        if (accounts) accounts_->set(accounts);
        for (std::size_t i = 0; i < doors_.size(); ++i) {
            doors_[i]->set(sets[i]);
            if (const auto all = door_addresses(next, doors_[i]->name()); !all.empty()) doors_[i]->settle(all);
        }
        routing_.set(routing);
        const bool pauses = next.flag("paused"), changes = pauses != given_.flag("paused");
        given_ = next;
        if (changes) pauses ? queue_->pause(true) : queue_->resume(true);
    }

    struct Close {
        void operator()(std::FILE* file) const { std::fclose(file); }
    };

    const CommandLine line_;
    const Settings started_;
    Settings given_;  // what SIGHUP takes up is of these
    std::optional<PidFile> pid_file_{};
    Log log_;
    const std::chrono::seconds drain_ = started_.period("drain");
    const std::shared_ptr<Net::SMTP::Resolver> resolver_;
    std::unique_ptr<std::FILE, Close> transcript_file_;
    const Transcript transcript_;
    const std::shared_ptr<CurrentTLS> tls_ = std::make_shared<CurrentTLS>();
    const std::shared_ptr<CurrentAccounts> accounts_ = std::make_shared<CurrentAccounts>();
    Current<const Routing> routing_;
    std::shared_ptr<Net::SMTP::Queue> queue_;
    std::vector<std::unique_ptr<Door>> doors_;
};
