// policies -- the plugins that decide which mail is taken, in their order; each has a place, whether it is used or not.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <Net/SMTP/Server/Plugins/DNSBL.hpp>
#include <Net/SMTP/Server/Plugins/Domains.hpp>
#include <Net/SMTP/Server/Plugins/Hops.hpp>
#include <Net/SMTP/Server/Plugins/Origin.hpp>
#include <Net/SMTP/Server/Plugins/SenderVerify.hpp>

#include "local_mail.hpp"
#include "routing.hpp"
#include "settings.hpp"

using Policies = std::vector<std::pair<std::string, std::shared_ptr<Net::SMTP::Plugin>>>;

// "ZONE", or "ZONE=CODES" where only those answers count.
inline void add_zones(const Settings& given, const std::string& name, int weight,
                      std::vector<Net::SMTP::DNSBL::Zone>& zones) {
    for (const auto& text : given.list(name)) try {
            const auto equals = text.find('=');
            Net::SMTP::DNSBL::Zone zone{.name = text.substr(0, equals), .weight = weight};
            if (equals != text.npos) zone.codes = Net::SMTP::Networks(text.substr(equals + 1));
            zones.push_back(std::move(zone));
        } catch (const std::exception& e) {
            given.refuse(name, e.what());
        }
}

// `strangers` says that whoever wants may connect: only those are looked up in the DNS. BadConfig.
inline Policies policies(const Settings& given, const std::shared_ptr<Net::SMTP::Resolver>& resolver,
                         const std::shared_ptr<const Routing>& routing, bool strangers) {
    using namespace Net::SMTP;
    const auto none = [] { return std::make_shared<Plugin>(); };
    std::string trusted;
    for (const auto& network : given.list("trusted")) trusted += network + ' ';
    const Networks ours(trusted);

    std::vector<DNSBL::Zone> zones;
    add_zones(given, "dnsbl", 1, zones);
    if (zones.empty() && !given.list("dnswl").empty()) given.refuse("dnswl", "has no effect without dnsbl");
    add_zones(given, "dnswl", -100, zones);
    const bool verifies = given.flag("sender_verify");
    if (!resolver && !zones.empty()) given.refuse("dnsbl", "needs the DNS, which dns = none takes away");
    if (!resolver && verifies) given.refuse("sender_verify", "needs the DNS, which dns = none takes away");

    Policies all;
    try {
        all.emplace_back("dnsbl", zones.empty() || !strangers ? none()
                                                              : std::make_shared<DNSBL>(DNSBL::Options{
                                                                    .resolver = resolver,
                                                                    .zones = zones,
                                                                    .text = "{address} is listed by {zone}. {reason}",
                                                                    .reasons = true,
                                                                    .exempt = ours}));
    } catch (const std::exception& e) {
        given.refuse("dnsbl", e.what());
    }
    all.emplace_back("sender", verifies && strangers ? std::make_shared<SenderVerify>(
                                                           SenderVerify::Options{.resolver = resolver, .exempt = ours})
                                                     : none());
    all.emplace_back("domains",
                     std::make_shared<Domains>(Domains::Options{.domains = given.list("domains"), .trusted = ours}));
    auto mailboxes = none();
    mailboxes->on<Event::Rcpt>([routing](Event::Rcpt& e) {
        if (!e.reply.positive()) return;
        if (const auto why = routing->no_mailbox(e.recipient)) e.reply = *why;
    });
    all.emplace_back("mailboxes", std::move(mailboxes));
    all.emplace_back("hops", std::make_shared<Hops>(given.number("max_hops")));
    all.emplace_back("origin", given.flag("origin") ? std::make_shared<Origin>() : none());
    return all;
}
