#include "DNSBL.hpp"

#include <algorithm>
#include <stdexcept>

#include "../Client.hpp"
#include "../Pipeline.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t longest_name = 253;    // RFC 1035 2.3.4, as text
constexpr std::size_t longest_address = 64;  // 32 nibbles and their dots
constexpr std::size_t longest_reason = 200;
constexpr std::size_t most_codes = 16;

void check(const std::string& zone) {
    if (zone.starts_with('[') || zone.size() > longest_name - longest_address || !Address::parse("x@" + zone))
        throw std::invalid_argument("DNSBL: not a zone: " + zone);
}

// "2.0.0.127." and, of IPv6, the nibbles (RFC 5782 2.1, 2.4).
std::string reversed(const std::string& address) {
    constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (auto at = address.rbegin(); at != address.rend(); ++at) {
        const auto octet = static_cast<unsigned char>(*at);
        if (address.size() == 4) out += std::to_string(octet) + '.';
        else out.append({digits[octet & 15], '.', digits[octet >> 4], '.'});
    }
    return out;
}

// What no zone may list (RFC 5782 5); of IPv6 it is ::FFFF:7F00:1.
std::string nobody(std::size_t octets) {
    const std::string v4 = "\x7F" + std::string("\0\0\1", 3);
    return octets == 4 ? v4 : std::string(10, '\0') + "\xFF\xFF" + v4;
}

std::string printable(std::string_view text) {
    std::string out(text.substr(0, longest_reason));
    for (auto& c : out)
        if (c < 32 || c == 127) c = '?';
    return out;
}

// The names in braces stand for their values, which are not looked through again.
std::string filled(std::string_view text, const std::vector<std::pair<std::string_view, std::string>>& values) {
    std::string out;
    while (!text.empty()) {
        const auto value = std::ranges::find_if(values, [&](const auto& v) { return text.starts_with(v.first); });
        if (value == values.end()) out += text.front();
        else out += value->second;
        text.remove_prefix(value == values.end() ? 1 : value->first.size());
    }
    return out;
}

void join(std::string& all, const std::string& one) {
    if (!all.empty() && !one.empty()) all += ", ";
    all += one;
}

bool allow_list(const DNSBL::Zone& zone) { return zone.weight < 0; }

}  // namespace

DNSBL::DNSBL(Options options)
    : options_(std::move(options)),
      allows_(std::ranges::any_of(options_.zones, allow_list)),
      cache_(options_.resolver, options_.cache) {
    for (const auto& zone : options_.zones) check(zone.name);
    if (options_.threshold < 1) throw std::invalid_argument("DNSBL: a threshold below 1 refuses everybody");
    on<Event::Connect>([this](Event::Connect& e) { greet(e); });
}

void DNSBL::greet(Event::Connect& e) {
    const auto& host = e.client.peer().host;
    if (!e.reply.positive() || options_.zones.empty() || options_.exempt.contains(host)) return;
    const auto address = address_octets(host);
    if (address.empty()) return;
    Answers answers;
    const int weight = ask_all(address, e.client.wait(Clock::now() + options_.timeout), answers);
    const bool listed = weight >= options_.threshold;
    const auto greeting = e.reply;
    if (listed) e.reply = {554, "5.7.1", refusal(host, answers)};
    Result result(e.client, answers, weight, listed, greeting, e.reply);
    e.client.show(result);
}

int DNSBL::ask_all(const std::string& address, const Wait& wait, Answers& answers) {
    auto left = std::ptrdiff_t(options_.zones.size());
    int weight = 0;
    for (const auto& zone : options_.zones) {
        // A dead zone takes no time from those behind it.
        const auto share = std::max(wait.end - Clock::now(), Clock::duration::zero()) / left--;
        answers.push_back(ask(zone, address, wait.within(Clock::now() + share)));
        if (answers.back().listed) weight += zone.weight;
        if (weight >= options_.threshold && !allows_) break;
    }
    return weight;
}

DNSBL::Answer DNSBL::ask(const Zone& zone, const std::string& address, const Wait& wait) {
    Answer answer{.zone = zone.name, .question = reversed(address) + zone.name};
    const auto records = cache_.query(answer.question, RecordType::A, wait);
    read(zone, records, answer);
    if (answer.listed && lists_everybody(zone, address, wait, answer.error)) answer.listed = false;
    if (!answer.listed || !options_.reasons) return answer;
    for (const auto& text : texts(cache_.query(answer.question, RecordType::TXT, wait))) {
        answer.reason = printable(text);
        break;
    }
    return answer;
}

void DNSBL::read(const Zone& zone, const Records& records, Answer& answer) const {
    static const Networks answers("127.0.0.0/8"), errors("127.255.255.0/24");
    if (records.temporary()) answer.error = records.error.empty() ? "no answer" : records.error;
    if (!records.found()) return;
    answer.codes = addresses(records);
    if (answer.codes.size() > most_codes) answer.codes.resize(most_codes);
    if (answer.codes.empty()) answer.error = "an answer without an address";
    for (const auto& code : answer.codes) {
        if (!answers.contains(code)) answer.error = code + " is no answer of a block list";
        if (errors.contains(code)) answer.error = code + ": the zone does not answer such questions";
    }
    const auto counts = [&](const std::string& code) { return zone.codes.contains(code); };
    answer.listed = answer.error.empty() && std::ranges::any_of(answer.codes, counts);
}

// Zones that were given up have been seen to do so.
bool DNSBL::lists_everybody(const Zone& zone, const std::string& address, const Wait& wait, std::string& error) {
    const auto question = reversed(nobody(address.size())) + zone.name;
    const auto records = cache_.query(question, RecordType::A, wait);
    if (records.found()) error = "the zone lists everybody";
    if (records.temporary()) error = "whether the zone lists everybody could not be looked up";
    return !error.empty();
}

std::string DNSBL::refusal(const std::string& host, const Answers& answers) const {
    std::string zones, reasons;
    for (const auto& answer : answers) {
        if (!answer.listed) continue;
        join(zones, answer.zone);
        join(reasons, answer.reason);
    }
    auto text = filled(options_.text, {{"{address}", host}, {"{zone}", zones}, {"{reason}", reasons}});
    text.erase(text.find_last_not_of(' ') + 1);  // where nothing came of {reason}
    return text;
}

}  // namespace Net::SMTP
