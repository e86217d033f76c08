#include "SaslScram.hpp"

#include <algorithm>
#include <charconv>

#include "Base64.hpp"
#include "SaslCrypto.hpp"

namespace Net::SMTP::Scram {

namespace {

constexpr std::size_t longest = 12'288;
constexpr std::size_t longest_nonce = 1024;

// RFC 5802 7: printable = %x21-2B / %x2D-7E.
bool printable(char c) { return c > ' ' && c <= '~' && c != ','; }
bool nonce_like(std::string_view text) {
    return !text.empty() && text.size() <= longest_nonce && std::ranges::all_of(text, printable);
}

bool acceptable(std::string_view message) { return message.size() <= longest && message.find('\0') == message.npos; }

// Takes "x=value" and the ',' behind it, if there is one.
std::optional<std::string_view> take(std::string_view& rest, char attribute) {
    if (rest.size() < 2 || rest[0] != attribute || rest[1] != '=') return std::nullopt;
    auto comma = rest.find(',');
    if (comma == rest.size() - 1) return std::nullopt;
    auto value = rest.substr(2, comma == rest.npos ? rest.npos : comma - 2);
    rest.remove_prefix(comma == rest.npos ? rest.size() : comma + 1);
    return value;
}

std::optional<std::string> decoded(std::string_view text) {
    std::string octets;
    if (!base64_decode(text, octets)) return std::nullopt;
    return octets;
}

bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// RFC 5802 5.1: extensions nobody knows are passed over, but for "m", which must be understood.
bool only_extensions(std::string_view rest) {
    while (!rest.empty()) {
        if (!letter(rest[0]) || rest[0] == 'm') return false;
        auto value = take(rest, rest[0]);
        if (!value || value->empty()) return false;
    }
    return true;
}

}  // namespace

std::string escape(std::string_view name) {
    std::string result;
    for (char c : name)
        if (c == ',') result += "=2C";
        else if (c == '=') result += "=3D";
        else result += c;
    return result;
}

std::optional<std::string> unescape(std::string_view name) {
    std::string result;
    for (; !name.empty(); name.remove_prefix(1)) {
        if (name[0] == ',' || name[0] == '\0') return std::nullopt;
        if (name[0] != '=') {
            result += name[0];
            continue;
        }
        if (!name.starts_with("=2C") && !name.starts_with("=3D")) return std::nullopt;
        result += name[1] == '2' ? ',' : '=';
        name.remove_prefix(2);
    }
    return result;
}

std::optional<Header> take_header(std::string_view& message) {
    Header header;
    auto rest = message;
    if (rest.empty()) return std::nullopt;
    header.flag = rest[0];
    if (header.flag == 'p') {
        auto type = take(rest, 'p');
        if (!type || type->empty()) return std::nullopt;
        header.binding = *type;
    } else if (rest.starts_with("n,") || rest.starts_with("y,")) {
        rest.remove_prefix(2);
    } else {
        return std::nullopt;
    }
    if (rest.starts_with("a=")) {
        if (rest.find(',') == rest.npos) return std::nullopt;
        const auto value = take(rest, 'a');  // none, where nothing is behind its comma
        auto name = value ? unescape(*value) : std::nullopt;
        if (!name || name->empty()) return std::nullopt;
        header.acts_as = *name;
    } else if (rest.starts_with(',')) {
        rest.remove_prefix(1);
    } else {
        return std::nullopt;
    }
    header.text = message.substr(0, message.size() - rest.size());
    message = rest;
    return header;
}

std::optional<ClientFirst> read_client_first(std::string_view message) {
    if (!acceptable(message)) return std::nullopt;
    auto header = take_header(message);
    if (!header) return std::nullopt;
    auto rest = message;
    auto user = take(rest, 'n');
    auto nonce = user ? take(rest, 'r') : std::nullopt;
    if (!nonce || !nonce_like(*nonce) || !only_extensions(rest)) return std::nullopt;
    auto name = unescape(*user);
    if (!name || name->empty()) return std::nullopt;
    return ClientFirst{*header, *name, std::string(*nonce), message};
}

std::optional<ServerFirst> read_server_first(std::string_view message) {
    if (!acceptable(message)) return std::nullopt;
    auto nonce = take(message, 'r');
    auto salt = nonce ? take(message, 's') : std::nullopt;
    auto count = salt ? take(message, 'i') : std::nullopt;
    if (!count || count->starts_with('0') || !nonce_like(*nonce) || !only_extensions(message)) return std::nullopt;
    ServerFirst first{std::string(*nonce), decoded(*salt).value_or(""), 0};
    auto [end, error] = std::from_chars(count->data(), count->data() + count->size(), first.iterations);
    if (error != std::errc() || end != count->data() + count->size() || first.salt.empty()) return std::nullopt;
    return first;
}

std::string write(const ServerFirst& first) {
    return "r=" + first.nonce + ",s=" + base64_encode(first.salt) + ",i=" + std::to_string(first.iterations);
}

std::optional<ClientFinal> read_client_final(std::string_view message) {
    if (!acceptable(message)) return std::nullopt;
    auto proof_at = message.rfind(",p=");
    if (proof_at == message.npos) return std::nullopt;
    auto without_proof = message.substr(0, proof_at);
    auto rest = without_proof;
    auto binding = take(rest, 'c');
    auto nonce = binding ? take(rest, 'r') : std::nullopt;
    if (!nonce || !nonce_like(*nonce) || !only_extensions(rest)) return std::nullopt;
    auto bound = decoded(*binding), proof = decoded(message.substr(proof_at + 3));
    if (!bound || !proof) return std::nullopt;
    return ClientFinal{*bound, std::string(*nonce), *proof, without_proof};
}

std::string dialogue(std::string_view client_first_bare, std::string_view server_first,
                     std::string_view client_final_without_proof) {
    std::string result(client_first_bare);
    (result += ',') += server_first;
    (result += ',') += client_final_without_proof;
    return result;
}

bool proves(const ScramKeys& keys, std::string_view dialogue, std::string_view proof) {
    auto signature = hmac_sha256(keys.stored_key, dialogue);
    if (proof.size() != signature.size()) return false;
    return same_octets(sha256(exclusive_or(proof, signature)), keys.stored_key);
}

std::string proof(std::string_view client_key, std::string_view stored_key, std::string_view dialogue) {
    return exclusive_or(client_key, hmac_sha256(stored_key, dialogue));
}

std::string signature(const ScramKeys& keys, std::string_view dialogue) {
    return hmac_sha256(keys.server_key, dialogue);
}

std::string new_nonce() { return base64_encode(random_octets(18)); }

}  // namespace Net::SMTP::Scram
