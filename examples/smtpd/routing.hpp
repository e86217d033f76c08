// routing -- which way each recipient's mail goes: handlers, routes, our own mailboxes, the smart host or MX.
#pragma once

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <Net/SMTP/Relay/Handlers.hpp>
#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Relay/SaslLogin.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>

#include "command.hpp"
#include "local_mail.hpp"
#include "settings.hpp"

// Made of the settings as a whole, and replaced as a whole; any thread may ask it. BadConfig.
class Routing {
public:
    Routing(const Settings& given, std::string hostname, std::shared_ptr<Net::SMTP::Resolver> resolver,
            Net::SMTP::Overhear transcript)
        : hostname_(std::move(hostname)),
          any_(any_mailbox(given)),
          resolver_(std::move(resolver)),
          common_{.hostname = hostname_,
                  .total = given.period("time_out"),
                  .max_hops = given.number("max_hops"),
                  .transcript = std::move(transcript)},
          by_mx_(by_mx(given)),
          own_(Net::SMTP::Domains::Options{.domains = given.list("domains")}) {
        read_handlers(given);
        read_routes(given);
        if (const auto pattern = given.text("maildir"); !pattern.empty())
            local_ = {"maildir", options(local_mail(pattern))};
        if (given.text("relay").empty()) refuse_without_relay(given);
        otherwise_ = given.text("relay").empty() ? by_mx_ : by_relay(given);
        postmaster_ = postmasters(given.list("domains"));
    }

    Net::SMTP::Route find(const Net::SMTP::Recipient& to) const {
        if (const auto number = patterns_.find(to)) return handlers_.at(*number);
        const auto domain = Net::SMTP::lower_case(to.domain);
        if (domain.empty()) return postmaster_;
        if (const auto* route = by_domain(domain)) return *route;
        return own_.ours(domain) && local_.how.target ? local_ : otherwise_;
    }
    // Why it can't go to its mailbox, if that is where it goes. A postmaster without a domain has no MX either.
    std::optional<Net::SMTP::Reply> no_mailbox(const Net::SMTP::Recipient& to) const {
        const auto route = find(to);
        if (to.domain.empty() && !leads_somewhere(route))
            return Net::SMTP::Reply{550, "5.1.1", "No mailbox for a postmaster without a domain"};
        const auto* mailboxes = dynamic_cast<const LocalMail*>(route.how.target.get());
        return mailboxes ? mailboxes->refusal(to) : std::nullopt;
    }

private:
    using Options = Net::SMTP::Relay::Options;
    using Target = std::shared_ptr<Net::SMTP::Target>;

    static bool any_mailbox(const Settings& given) {
        const auto which = given.text("mailboxes");
        if (which != "any" && which != "existing") given.refuse("mailboxes", "'" + which + "'");
        return which == "any";
    }
    Options options(Target target) const {
        auto all = common_;
        all.target = std::move(target);
        return all;
    }
    static bool leads_somewhere(const Net::SMTP::Route& route) { return route.how.target || !route.how.host.empty(); }
    // Options that contradict each other would be found out by each mail. std::invalid_argument.
    static Options checked(Options all) {
        Net::SMTP::Relay(Net::SMTP::Sender(""), {}, Net::SMTP::Message(), all);
        return all;
    }
    Target local_mail(const std::string& pattern) const {
        const bool for_all = pattern.find("{local}") == pattern.npos;
        return std::make_shared<LocalMail>(pattern, any_ || for_all, hostname_);
    }

    // "maildir:/PATH", "pipe:/PROGRAM ARGUMENT...", "lmtp:HOST:PORT", "lmtp:unix:/PATH", "smtp:HOST[:PORT] [LEVEL]",
    // "mx". What throws says what is wrong.
    Net::SMTP::Route destination(const std::string& text) const {
        const auto words = parted(text, ' ');
        const auto first = words.empty() ? "" : words.front();
        const auto kind = first.substr(0, first.find(':'));
        const auto rest = first.size() > kind.size() ? first.substr(kind.size() + 1) : "";
        if (kind == "maildir" && words.size() == 1) return {first, options(local_mail(Settings::absolute(rest)))};
        if (kind == "pipe") {
            auto command = words;
            command.front() = rest;
            return {"pipe:" + rest, options(std::make_shared<Command>(std::move(command), common_.total))};
        }
        if ((kind == "smtp" || kind == "lmtp") && words.size() <= 2) {
            Net::SMTP::Upstream::parse(first);
            auto all = common_;
            all.host = first;
            all.resolver = resolver_;
            if (words.size() == 2) all.tls = Net::SMTP::ClientTLS(Net::SMTP::ClientTLS::parse(words.back()));
            return {text, checked(all)};
        }
        if (text == "mx" && resolver_) return by_mx_;
        throw std::invalid_argument("no destination: '" + text +
                                    "'; there are maildir:/PATH, pipe:/PROGRAM ARGUMENT..., lmtp:HOST:PORT, "
                                    "lmtp:unix:/PATH, smtp:HOST[:PORT] [TLS LEVEL], mx");
    }

    void read_handlers(const Settings& given) {
        std::vector<Net::SMTP::Handlers::Handler> patterns;
        try {
            for (const auto& text : given.list("handlers")) {
                const auto line = trimmed(text);
                const auto blank = line.find_first_of(" \t");
                if (blank == line.npos) throw std::invalid_argument("'" + line + "' has no destination");
                handlers_.push_back(destination(trimmed(line.substr(blank))));
                patterns.push_back({line.substr(0, blank), handlers_.back().how});
            }
            patterns_.set(std::move(patterns));  // says which one is wrong
        } catch (const std::exception& e) {
            given.refuse("handlers", e.what());
        }
    }
    void read_routes(const Settings& given) {
        try {
            for (const auto& text : given.list("routes")) {
                const auto equals = text.find('=');
                if (equals == text.npos) throw std::invalid_argument("'" + text + "' has no destination");
                const auto domain = Net::SMTP::lower_case(trimmed(text.substr(0, equals)));
                a_domain(domain);
                if (!routes_.try_emplace(domain, destination(trimmed(text.substr(equals + 1)))).second)
                    throw std::invalid_argument(domain + " is there twice");
            }
        } catch (const std::exception& e) {
            given.refuse("routes", e.what());
        }
    }
    const Net::SMTP::Route* by_domain(const std::string& domain) const {
        if (const auto exact = routes_.find(domain); exact != routes_.end()) return &exact->second;
        for (auto dot = domain.find('.'); dot != domain.npos; dot = domain.find('.', dot + 1))
            if (const auto above = routes_.find(domain.substr(dot)); above != routes_.end()) return &above->second;
        return nullptr;
    }

    Net::SMTP::Route by_mx(const Settings& given) const {
        auto all = common_;
        all.resolver = resolver_;
        all.mx_port = static_cast<std::uint16_t>(given.number("mx_port"));
        all.tls = tls(given, "mx_tls", "");
        if (all.tls.options().implicit) given.refuse("mx_tls", "no host by MX speaks TLS from the start");
        return {"", all};
    }
    static void refuse_without_relay(const Settings& given) {
        for (const char* name : {"relay_user", "relay_pass", "relay_pass_file", "relay_auth", "relay_tls", "relay_ca"})
            if (given.given(name) && !given.list(name).empty() && !given.list(name).front().empty())
                given.refuse(name, "has no effect without relay");
    }
    Net::SMTP::Route by_relay(const Settings& given) const {
        auto all = common_;
        all.host = given.text("relay");
        all.resolver = resolver_;
        all.tls = tls(given, "relay_tls", given.text("relay_ca"));
        all.login = login(given);
        try {
            return {"relay", checked(all)};
        } catch (const std::exception& e) {
            given.refuse("relay", e.what());
        }
    }
    // Of ours, or with the first of our domains that goes somewhere.
    Net::SMTP::Route postmasters(const std::vector<std::string>& domains) const {
        if (local_.how.target) return local_;
        for (const auto& domain : domains)
            if (const auto* route = by_domain(Net::SMTP::lower_case(domain)); route && leads_somewhere(*route))
                return *route;
        return otherwise_;
    }
    Net::SMTP::ClientTLS tls(const Settings& given, const std::string& name, const std::string& ca) const {
        using Net::SMTP::ClientTLS;
        const auto level = given.text(name);
        auto options = level.empty() ? ClientTLS::Options() : ClientTLS::parse(level);
        options.ca = ca;
        if (options.level == ClientTLS::Level::dane && (!resolver_ || given.text("trust_anchor").empty()))
            given.refuse(name, "dane needs trust_anchor");
        try {
            return ClientTLS(options);
        } catch (const std::exception& e) {
            given.refuse(ca.empty() ? name : "relay_ca", e.what());
        }
    }
    static std::shared_ptr<Net::SMTP::Login> login(const Settings& given) {
        const auto user = given.text("relay_user"), file = given.text("relay_pass_file");
        if (user.empty()) {
            if (!given.text("relay_pass").empty() || !file.empty())
                given.refuse("relay_user", "is needed for a password");
            return nullptr;
        }
        if (file.empty() == given.text("relay_pass").empty())
            given.refuse("relay_user", "needs either relay_pass or relay_pass_file");
        const auto named = given.list("relay_auth");
        try {
            return std::make_shared<Net::SMTP::SaslLogin>(
                Net::SMTP::SaslLogin::Options{.user = user,
                                              .password = file.empty() ? given.text("relay_pass") : first_line(file),
                                              .mechanisms = named,
                                              .clear_text = named});
        } catch (const std::exception& e) {
            given.refuse(named.empty() ? "relay_user" : "relay_auth", e.what());
        }
    }
    static std::string first_line(const std::string& file) {
        std::ifstream in(file);
        std::string line;
        std::getline(in, line);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (line.empty()) throw std::runtime_error("no password in " + file);
        return line;
    }

    const std::string hostname_;
    const bool any_;
    const std::shared_ptr<Net::SMTP::Resolver> resolver_;
    const Options common_;
    const Net::SMTP::Route by_mx_;
    const Net::SMTP::Domains own_;
    Net::SMTP::Handlers patterns_;
    std::vector<Net::SMTP::Route> handlers_;
    std::map<std::string, Net::SMTP::Route> routes_;
    Net::SMTP::Route local_{}, otherwise_{}, postmaster_{};
};
