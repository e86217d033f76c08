// resolver -- a stranger's program with a resolver: asks for a name of its hosts file, and for what is none.
// none.
#include <Net/SMTP/Server/UnboundResolver.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>

using namespace Net::SMTP;

int main() {
    std::ofstream("hosts") << "192.0.2.1 xn--bcher-kva.example\n";
    UnboundResolver resolver({.hosts = "hosts"});
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    const auto found = resolver.query(
        "b\xC3\xBC"
        "cher.example",
        RecordType::A, end);
    const auto none = resolver.query(std::string(64, 'a'), RecordType::A, end);
    for (const auto& address : addresses(found)) std::printf("%s", address.c_str());
    std::printf(", %s\n", none.error.c_str());
    return found.found() && none.status == Records::Status::no_domain ? 0 : 1;
}
