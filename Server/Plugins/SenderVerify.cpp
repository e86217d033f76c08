#include "SenderVerify.hpp"

#include <algorithm>

#include "../Client.hpp"
#include "../Pipeline.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

Reply refusal(SenderVerify::Verdict verdict, const std::string& domain) {
    using enum SenderVerify::Verdict;
    switch (verdict) {
        case null_mx: return {550, "5.7.27", "The sender's domain accepts no mail: " + domain};
        case no_domain: return {550, "5.1.8", "The sender's domain does not exist: " + domain};
        case no_records: return {550, "5.1.8", "The sender's domain has no mail server: " + domain};
        case unknown: return {451, "4.4.3", "The sender's domain could not be looked up: " + domain};
        case fine: break;
    }
    return {};
}

}  // namespace

SenderVerify::SenderVerify(Options options) : options_(std::move(options)), cache_(options_.resolver, options_.cache) {
    on<Event::Mail>([this](Event::Mail& e) { verify(e); });
}

void SenderVerify::verify(Event::Mail& e) {
    const auto& domain = e.sender.domain;
    const bool literal = domain.starts_with('[');
    if (!e.reply.positive() || domain.empty() || literal || !e.client.user().empty()) return;
    if (options_.exempt.contains(e.client.peer())) return;
    std::string error;
    const auto verdict = ask(domain, e.client.wait(Clock::now() + options_.timeout), error);
    if (verdict != Verdict::fine) e.reply = refusal(verdict, domain);
    Result result(e.client, e.sender, verdict, error, e.reply);
    e.client.show(result);
}

SenderVerify::Verdict SenderVerify::ask(const std::string& domain, const Wait& wait, std::string& error) {
    using Status = Records::Status;
    const auto records = cache_.query(domain, RecordType::MX, wait);
    error = records.error;
    switch (records.status) {
        case Status::no_domain: return Verdict::no_domain;
        case Status::no_data: return ask_addresses(domain, wait, error);
        case Status::failed:
        case Status::timeout: return Verdict::unknown;
        case Status::found: break;
    }
    const auto hosts = mail_exchangers(records);
    if (hosts.empty()) error = domain + ": MX records that make no sense";
    if (hosts.empty()) return Verdict::unknown;
    // RFC 7505 3: a null MX among others means nothing.
    const bool null = std::ranges::all_of(hosts, [](const MailExchanger& m) { return m.host.empty(); });
    if (null) error = domain + ": null MX";
    return null ? Verdict::null_mx : Verdict::fine;
}

SenderVerify::Verdict SenderVerify::ask_addresses(const std::string& domain, const Wait& wait, std::string& error) {
    bool unsure = false;
    for (const auto type : {RecordType::A, RecordType::AAAA}) {
        const auto records = cache_.query(domain, type, wait);
        if (!addresses(records).empty()) return error.clear(), Verdict::fine;
        unsure |= records.temporary() || records.found();
        if (records.temporary() || !unsure) error = records.error;
    }
    return unsure ? Verdict::unknown : Verdict::no_records;
}

}  // namespace Net::SMTP
